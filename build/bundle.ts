/**
 * One CommonJS file out of agent/main.ts and all that it imports (the form that Node's single-executable format asks for), one for
 * the engine's threads, and the native addons that both will find among the executable's assets.
 */

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import esbuild from 'esbuild'
import { threadAsset } from '../agent/runtime.ts'
import { type Addon, type AddonFile, assetKey } from './addons.ts'
import { collectLicenses } from './licenses.ts'
import { packageDirectory } from './packages.ts'
import type { Target } from './targets.ts'

export interface Bundle {
  /** The bundled program. */
  file: string
  /** Asset key → file, for the executable. */
  assets: Record<string, string>
}

const root = path.dirname(import.meta.dirname)

/** Each addon's files, the one to load first. */
function addonSources({ natively, platform }: Target): Record<string, string[]> {
  const bindings = packageDirectory(`@duckdb/node-bindings-${natively}`)
  const koffi = packageDirectory(`@koromix/koffi-${natively}`)
  return {
    duckdb: [path.join(bindings, 'duckdb.node'), path.join(bindings, platform === 'win' ? 'duckdb.dll' : 'libduckdb.so')],
    koffi: [path.join(koffi, natively.replace('-', '_'), 'koffi.node')],
  }
}

/** One character beyond ASCII, in a comment even, and V8 takes two bytes for each of all. */
function refuseWideText(file: string): void {
  const line = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .findIndex((text) => /[^\0-\x7f]/.test(text))
  if (line >= 0) throw new Error(`${file}:${line + 1} has a character beyond ASCII, which takes twice the memory for all of it`)
}

/** Bundles `entry` for `target` into `directory`. Fails on anything that would only fail when run. */
export async function bundle(options: { entry: string; directory: string; target: Target; nodeVersion: string }): Promise<Bundle> {
  const { directory, target } = options
  const assets: Record<string, string> = {}
  const addons = Object.entries(addonSources(target)).map(([name, files]): Addon => {
    for (const file of files) assets[assetKey(name, path.basename(file))] = file
    return { name, files: files.map(describeFile) }
  })
  const file = path.join(directory, `daemonguard-${target.name}.cjs`)
  const thread = path.join(directory, `${target.name}-${threadAsset}`)
  const common: esbuild.BuildOptions & { metafile: true } = {
    bundle: true,
    absWorkingDir: root,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    // Readable stack traces are worth more than the few kilobytes.
    keepNames: true,
    // V8 keeps the text for as long as the program runs, in each of its three processes: no comments, a statement or two in a line.
    minifyWhitespace: true,
    lineLimit: 120,
    legalComments: 'none',
    plugins: [nativeAddons(addons, target.natively)],
    // CommonJS has no import.meta. In the executable all three name the executable itself; node-cron reads one at its start.
    banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href" },
    define: { 'import.meta.url': 'bundleUrl', 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
    metafile: true,
    logLevel: 'warning',
  }
  const builds = [
    await esbuild.build({ ...common, entryPoints: [options.entry], outfile: file }),
    await esbuild.build({
      ...common,
      entryPoints: [path.join(root, 'agent/engine/duckdb-thread.ts')],
      outfile: thread,
      // A worker made from a text has no file name that Node's own functions take.
      banner: { js: "const bundleUrl = require('node:url').pathToFileURL(process.execPath).href" },
      define: { ...common.define, __filename: 'process.execPath', 'import.meta.filename': 'process.execPath' },
    }),
  ]
  assets[threadAsset] = thread
  for (const text of [file, thread]) refuseWideText(text)
  const inputs = [...new Set(builds.flatMap(({ metafile }) => Object.keys(metafile.inputs)))]
  refuseOwnPaths(inputs)
  const licenses = path.join(directory, 'LICENSES')
  fs.writeFileSync(licenses, collectLicenses(inputs, Object.values(assets), options.nodeVersion))
  assets.licenses = licenses
  // What `daemonguard service install` puts beside the program; on Linux it is install.sh, out of the executable.
  for (const file of target.platform === 'win' ? ['config.example.yaml'] : ['install.sh', 'build/daemonguard.service'])
    assets[path.basename(file)] = path.join(root, file)
  return { file, assets }
}

/** Our own sources lie nowhere when packed: only agent/runtime.ts may ask where it is. What else does would break in the executable alone. */
function refuseOwnPaths(inputs: readonly string[]): void {
  for (const input of inputs) {
    if (!/^(agent|plugins)\//.test(input) || input === 'agent/runtime.ts') continue
    if (/\bimport\.meta\b/.test(fs.readFileSync(path.join(root, input), 'utf8')))
      throw new Error(`${input} reads import.meta: ask agent/runtime.ts instead`)
  }
}

function describeFile(file: string): AddonFile {
  const content = fs.readFileSync(file)
  return {
    name: path.basename(file),
    size: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
    crc32: crc32(content),
  }
}

/** Puts build/addons.ts in the place of the packages whose only work is to find a `.node` file in node_modules. */
function nativeAddons(addons: readonly Addon[], natively: string): esbuild.Plugin {
  const loaders: Record<string, string> = { '@duckdb/node-bindings': 'duckdb', [`@koromix/koffi-${natively}`]: 'koffi' }
  return {
    name: 'native-addons',
    setup(build) {
      build.onResolve({ filter: /^(@duckdb\/node-bindings|@koromix\/koffi-.*)$/ }, ({ path: name }) => {
        const addon = loaders[name]
        // koffi asks for the other platforms' packages too, each inside a try of its own.
        return addon === undefined ? { path: name, external: true } : { path: addon, namespace: 'native-addon' }
      })
      // koffi's ES module asks for its addon through createRequire, which no bundler sees; its CommonJS one does not.
      build.onResolve({ filter: /^koffi$/ }, () => ({ path: path.join(root, 'node_modules/koffi/index.cjs') }))
      build.onLoad({ filter: /.*/, namespace: 'native-addon' }, ({ path: name }) => ({
        contents: `module.exports = require('./build/addons.ts').loadAddon(${JSON.stringify(addons.find((addon) => addon.name === name))})`,
        resolveDir: root,
        loader: 'js',
      }))
    },
  }
}
