/** The program as one file for Node for Windows: as build/bundle.ts makes it, but with the native addons loaded from where npm's packages lie. */

import fs from 'node:fs'
import path from 'node:path'
import esbuild from 'esbuild'
import { packageDirectory } from '../../build/packages.ts'
import { windowsNodeVersion, windowsPath } from '../support/wine.ts'

const root = path.resolve(import.meta.dirname, '../..')

/** Writes the program that begins in `entry` into `directory` and resolves with its path. */
export async function bundleForWindows(entry: string, directory: string): Promise<string> {
  const file = path.join(directory, `${path.basename(entry, '.ts')}.cjs`)
  const addons: Record<string, string> = {
    '@duckdb/node-bindings': path.join(packageDirectory('@duckdb/node-bindings-win32-x64'), 'duckdb.node'),
    '@koromix/koffi-win32-x64': path.join(packageDirectory('@koromix/koffi-win32-x64'), 'win32_x64/koffi.node'),
  }
  const resolve: esbuild.Plugin = {
    name: 'for-windows',
    setup(build) {
      build.onResolve({ filter: /^(@duckdb\/node-bindings|@koromix\/koffi-.*)$/ }, ({ path: name }) =>
        addons[name] === undefined ? { path: name, external: true } : { path: name, namespace: 'native-addon' },
      )
      build.onResolve({ filter: /^koffi$/ }, () => ({ path: path.join(root, 'node_modules/koffi/index.cjs') }))
      build.onLoad({ filter: /.*/, namespace: 'native-addon' }, ({ path: name }) => ({
        contents: `process.dlopen(module, ${JSON.stringify(windowsPath(addons[name] as string))})`,
        loader: 'js',
      }))
      // How the program starts itself once more.
      build.onLoad({ filter: /agent\/runtime\.ts$/ }, ({ path: source }) => ({
        contents: fs.readFileSync(source, 'utf8').replace("'main.ts'", JSON.stringify(path.basename(file))),
        loader: 'ts',
      }))
    },
  }
  await esbuild.build({
    entryPoints: [path.join(root, entry)],
    outfile: file,
    bundle: true,
    absWorkingDir: root,
    platform: 'node',
    format: 'cjs',
    target: `node${windowsNodeVersion.split('.')[0]}`,
    keepNames: true,
    plugins: [resolve],
    banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href" },
    define: { 'import.meta.url': 'bundleUrl', 'import.meta.dirname': '__dirname', 'import.meta.filename': '__filename' },
    logLevel: 'warning',
  })
  return file
}
