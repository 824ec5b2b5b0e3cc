/**
 * Packs a bundle and its assets into one executable, with pkg's own single-executable step (`@yao-pkg/pkg --sea`).
 *
 * It is called below pkg's command line, for two things the command line does not hand through:
 *   - `nodePath`: the Node inside the executable is the one that npm installed (the `node` package), so the build needs no
 *     network and leaves nothing in ~/.pkg-cache. Without it pkg downloads the same version from nodejs.org and checks it.
 *   - `assets` of Node's own format: read in place from the mapped executable. pkg's virtual file system, which the command
 *     line insists on as soon as there are assets, patches fs, child_process and dlopen in every process, which costs memory and start time.
 *
 * V8's code cache stays off: it would save 20 ms of each start, but its bytes differ from build to build, and the same source
 * should give the same executable.
 */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import type { Bundle } from './bundle.ts'

interface SeaOptions {
  targets: { nodeRange: string; platform: string; arch: string; output: string }[]
  nodePath?: string
  signature: boolean
  seaConfig: { main: string; assets: Record<string, string> }
}

/** Writes `output`, an executable for this machine's platform with the Node version of `node_modules/node`. */
export async function pack(bundle: Bundle, output: string): Promise<void> {
  const require = createRequire(import.meta.url)
  const { default: sea } = require('@yao-pkg/pkg/lib-es5/sea.js') as { default(entry: string, options: SeaOptions): Promise<void> }
  const nodeVersion = (require('node/package.json') as { version: string }).version
  fs.rmSync(output, { force: true })
  // Node writes the bundle's path into the executable, as it is given. pkg works in a new directory below TMPDIR: from there the
  // bundle has the same name on every machine and in every checkout.
  const temporary = process.env.TMPDIR
  process.env.TMPDIR = path.dirname(bundle.file)
  try {
    await sea(bundle.file, {
      targets: [{ nodeRange: `node${nodeVersion}`, platform: 'linux', arch: process.arch, output }],
      nodePath: installedNode(require, nodeVersion),
      signature: false,
      seaConfig: { main: `../${path.basename(bundle.file)}`, assets: bundle.assets },
    })
  } finally {
    if (temporary === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = temporary
  }
  if (!fs.existsSync(output)) throw new Error(`pkg wrote no ${output}; its messages are above`)
}

/** The Node binary that npm brought, if it is there and runs; undefined makes pkg download it. */
function installedNode(require: NodeJS.Require, version: string): string | undefined {
  const directory = path.dirname(require.resolve('node/package.json'))
  return [path.join(directory, 'bin/node'), path.join(directory, '..', `node-linux-${process.arch}`, 'bin/node')].find(
    (file) => fs.existsSync(file) && spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout?.trim() === `v${version}`,
  )
}
