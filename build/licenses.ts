/**
 * The licences of everything inside the executable, as one text: our own, Node's (with V8, OpenSSL, ICU, …), and those of every npm
 * package that the bundler has put in. DuckDB's package names its own licence alone; what DuckDB itself is made of is in
 * build/licenses/, copied from DuckDB's sources of the same version.
 */

import fs from 'node:fs'
import path from 'node:path'
import { packageDirectory } from './packages.ts'
import { ofThisMachine } from './targets.ts'

interface Package {
  name: string
  version: string
  license?: string
}

const root = path.dirname(import.meta.dirname)
const rule = '='.repeat(100)

/**
 * `inputs`: the bundled files, relative to the root; `natives`: files that go in beside the bundle. The text is the same for all platforms. Throws for a
 * package without any licence text.
 */
export function collectLicenses(inputs: readonly string[], natives: readonly string[], nodeVersion: string): string {
  const directories = new Set<string>()
  for (const file of [...inputs, ...natives.map((native) => path.relative(root, native))]) {
    const directory = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file.replaceAll('\\', '/'))?.[1]
    if (directory !== undefined) directories.add(path.join(root, directory))
  }
  const packages = [...directories].map((directory) => ({ directory, ...readPackage(directory) }))
  // Two files of one package may lie in two places: one copy each of the same text.
  const texts = new Map(packages.map((one) => [`${generalName(one.name)} ${one.version}`, licenseOf(one.directory, one)]))
  const sections = [
    ['DaemonGuard', read(path.join(root, 'LICENSE'))],
    ['Node.js, and all that is inside it', nodeLicense(nodeVersion)],
    ...[...texts].sort(([a], [b]) => (a < b ? -1 : 1)),
    ...duckdbParts(packages),
  ]
  return sections.map(([title, text]) => `${rule}\n${title}\n${rule}\n\n${text?.trim()}\n`).join('\n')
}

function readPackage(directory: string): Package {
  return JSON.parse(read(path.join(directory, 'package.json'))) as Package
}

function licenseOf(directory: string, { name }: Package): string {
  // koffi's binaries are packages of their own, without its licence.
  if (name.startsWith('@koromix/koffi-')) return koffiLicenses()
  const files = fs.readdirSync(directory).filter((file) => /^(licen[sc]e|copying|notice)(\.|$)/i.test(file))
  if (files.length > 0) return files.map((file) => read(path.join(directory, file))).join('\n')
  const readme = fs.readdirSync(directory).find((file) => /^readme\.md$/i.test(file))
  const section = readme === undefined ? undefined : /^#+ *licen[sc]e *$([\s\S]*)/im.exec(read(path.join(directory, readme)))?.[1]
  if (section === undefined || !/copyright/i.test(section))
    throw new Error(`${directory} comes without a licence text: find it, and add it to build/licenses.ts`)
  return section
}

function koffiLicenses(): string {
  const koffi = path.join(root, 'node_modules/koffi')
  const vendors = fs.readdirSync(path.join(koffi, 'vendor')).map((name) => path.join(koffi, 'vendor', name))
  return [koffi, ...vendors].map((directory) => licenseOf(directory, { name: '', version: '' })).join('\n')
}

/** A package for one platform has the licence of those for the others. */
function generalName(name: string): string {
  return name.replace(/-(linux|win32)-(x64|arm64)$/, ' (native)')
}

/** Of the Node inside: npm's packages for Linux keep the whole text. */
function nodeLicense(version: string): string {
  return read(
    path.join(packageDirectory(`node-${ofThisMachine?.platform === 'linux' ? ofThisMachine.name : 'linux-x64'}`, version), 'LICENSE'),
  )
}

function duckdbParts(packages: readonly Package[]): [string, string][] {
  const bindings = packages.find(({ name }) => name.startsWith('@duckdb/node-bindings-'))
  if (bindings === undefined) return []
  const version = bindings.version.replace(/-.*$/, '')
  return [[`What DuckDB ${version} is made of`, read(path.join(root, 'build/licenses', `duckdb-${version}.txt`))]]
}

function read(file: string): string {
  return fs.readFileSync(file, 'utf8').replaceAll('\r\n', '\n')
}
