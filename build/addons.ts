/**
 * Native addons inside the packed program. The operating system can load a library from a file only, so each addon is
 * copied out of the executable once, to `<cache>/<addon>-<hash>/`, and loaded from there with process.dlopen. (pkg's own
 * way, a virtual file system, copies it at EVERY start: 270 ms and 350 MB of memory.) This file is part of the program;
 * build/bundle.ts puts it in the place of the packages that would load the addons from node_modules.
 *
 * Which cache: the first of these that works.
 *   1. $CACHE_DIRECTORY: systemd makes it for the service (/var/cache/daemonguard, 0700) and removes it with `systemctl clean`. As a service of Windows, the
 *      program sets it for itself and its engine: a directory beside the executable.
 *   2. $XDG_CACHE_HOME/daemonguard, or ~/.cache/daemonguard; on Windows %LOCALAPPDATA%\DaemonGuard\cache: a person's own runs. It survives a reboot, unlike /tmp.
 *   3. <tmp>/daemonguard-<uid>: users without a writable home, or with a home mounted noexec. Not on Windows, where every user may write to that of the services.
 * Not /tmp first: under systemd's PrivateTmp it is empty at every start, on many hosts it is memory or mounted noexec.
 *
 * Trust: a directory is made 0700, and used only if it is ours (owner, no one else may write, no symbolic link), so whoever could change the files could
 * change the executable's memory as well. On Windows nobody can be asked for the owner before the first addon is there: all of its places lie where Windows itself lets only
 * the user, or only administrators, write. The content is compared at each start all the same, against rot and half
 * copies: by CRC-32, which costs 15 ms for DuckDB's 71 MB where SHA-256 costs 45. The copy itself is checked by SHA-256.
 */

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { ensureDirectory, writeAtomic } from '../agent/disk.ts'
import { codeOf, DaemonGuardError, messageOf } from '../agent/errors.ts'

/** One file of an addon, as build/bundle.ts saw it. */
export interface AddonFile {
  name: string
  size: number
  sha256: string
  crc32: number
}

/** A native addon: its first file is the one to load, the others are libraries that it finds beside itself. */
export interface Addon {
  name: string
  files: readonly AddonFile[]
}

/** Key of an addon's file among the executable's assets. */
export function assetKey(addon: string, file: string): string {
  return `addon/${addon}/${file}`
}

/** Reads one of the executable's assets, without a copy. */
export type AssetReader = (key: string) => Uint8Array

/** Loads an addon out of the executable and returns its exports. Throws a DaemonGuardError that lists every place that was tried. */
export function loadAddon(addon: Addon, readAsset: AssetReader = readExecutableAsset): unknown {
  const failures: string[] = []
  for (const cache of cacheDirectories()) {
    try {
      const directory = unpackAddon(addon, cache, readAsset)
      const loaded = { exports: {} }
      process.dlopen(loaded, path.join(directory, addon.files[0]?.name ?? ''))
      return loaded.exports
    } catch (error) {
      failures.push(`${cache}: ${messageOf(error)}`)
    }
  }
  throw new DaemonGuardError(`cannot unpack or load ${addon.name}, which is a part of this program`, {
    where: failures.join('; '),
    hint: 'XDG_CACHE_HOME=DIR daemonguard …, with a DIR that you own, has 80 MB free and is not mounted noexec',
  })
}

/** Copies the addon's files to `<cache>/<addon>-<hash>/` where they are not there already, whole; returns that directory. */
export function unpackAddon(addon: Addon, cache: string, readAsset: AssetReader): string {
  const hash = createHash('sha256')
  for (const file of addon.files) hash.update(`${file.name} ${file.sha256}\n`)
  const directory = path.join(cache, `${addon.name}-${hash.digest('hex').slice(0, 16)}`)
  ensureDirectory(cache, 'ADDON:UNPACK')
  refuseForeign(cache)
  ensureDirectory(directory, 'ADDON:UNPACK')
  refuseForeign(directory)
  for (const file of addon.files) {
    const target = path.join(directory, file.name)
    if (isWhole(target, file)) continue
    const content = readAsset(assetKey(addon.name, file.name))
    if (createHash('sha256').update(content).digest('hex') !== file.sha256)
      throw new Error(`the executable's own copy of ${file.name} is damaged`)
    // A rename: another process that starts now sees the old file or the new one, and one that has the old one loaded keeps it.
    writeAtomic(target, content, 'ADDON:UNPACK')
    if (!isWhole(target, file)) throw new Error(`${target} does not read back as it was written`)
  }
  return directory
}

/** Where addons may be unpacked, best first. */
export function cacheDirectories(env: NodeJS.ProcessEnv = process.env, platform: NodeJS.Platform = process.platform): string[] {
  const home = os.homedir()
  const xdg = env.XDG_CACHE_HOME
  const isWindows = platform === 'win32'
  const user =
    xdg !== undefined && path.isAbsolute(xdg)
      ? path.join(xdg, 'daemonguard')
      : isWindows
        ? path.join(env.LOCALAPPDATA ?? path.join(home, 'AppData', 'Local'), 'DaemonGuard', 'cache')
        : path.isAbsolute(home) && home !== '/'
          ? path.join(home, '.cache', 'daemonguard')
          : undefined
  return [
    // systemd gives a list when the unit names several directories.
    isWindows ? env.CACHE_DIRECTORY : env.CACHE_DIRECTORY?.split(':')[0],
    user,
    isWindows ? undefined : path.join(os.tmpdir(), `daemonguard-${process.getuid?.() ?? 'user'}`),
  ].filter((directory) => directory !== undefined && directory !== '') as string[]
}

function refuseForeign(directory: string): void {
  if (process.platform === 'win32') return
  const stat = fs.lstatSync(directory)
  if (!stat.isDirectory()) throw new Error(`${directory} is not a directory`)
  if (stat.uid !== process.getuid?.()) throw new Error(`${directory} belongs to user ${stat.uid}`)
  if ((stat.mode & 0o022) !== 0) throw new Error(`others may write to ${directory}`)
}

function isWhole(target: string, file: AddonFile): boolean {
  let fd: number
  try {
    fd = fs.openSync(target, fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0))
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ELOOP') return false
    throw error
  }
  try {
    if (fs.fstatSync(fd).size !== file.size) return false
    const buffer = Buffer.allocUnsafe(1 << 20)
    let sum = 0
    for (let read = fs.readSync(fd, buffer); read > 0; read = fs.readSync(fd, buffer)) sum = crc32(buffer.subarray(0, read), sum)
    return sum === file.crc32
  } finally {
    fs.closeSync(fd)
  }
}

function readExecutableAsset(key: string): Uint8Array {
  // Asked for by name at run time: the module exists inside Node only, and only there it has assets.
  const sea = createRequire(process.execPath)('node:sea') as typeof import('node:sea')
  return new Uint8Array(sea.getRawAsset(key))
}
