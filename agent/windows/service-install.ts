/**
 * `daemonguard.exe service install` and `uninstall`: what install.sh does on Linux.
 *
 *   %ProgramFiles%\DaemonGuard\daemonguard.exe   the program, where only administrators can replace what runs as the system
 *   %ProgramFiles%\DaemonGuard\cache             native addons, unpacked by the service
 *   %ProgramData%\DaemonGuard\config.yaml        never overwritten; the system and administrators only, as all that is beside it
 *   %ProgramData%\DaemonGuard\config.example.yaml
 *   %ProgramData%\DaemonGuard\data
 *
 * A program that runs can't be replaced on Windows, but renamed: the engine goes on in the old file, which the next installation removes.
 */

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { waitUntil } from '../clock.ts'
import { loadConfig } from '../config.ts'
import { copyDurably, ensureDirectory, moveAnywhere, moveDurably, removeDurably, removeTree, writeAtomic } from '../disk.ts'
import { DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { pathsOf } from '../paths.ts'
import { packedText, version } from '../runtime.ts'
import { forgetSource, registerSource } from './event-log.ts'
import { serviceName } from './service.ts'
import { giveToAdministrators, ownerOf, powers } from './service-access.ts'
import { defineService, queryService, removeService, requireAdministrator, startService, stopService } from './service-control.ts'

export interface Options {
  dryRun: boolean
  /** With uninstall: data and configuration too. */
  purge: boolean
}

interface Places {
  programs: string
  program: string
  home: string
  config: string
  data: string
}

/** An agent ends within it; a start may replay a long journal. */
const stopWithin = 60_000
const startWithin = 10 * 60_000
const healthyWithin = 60_000

function placesOf(env: NodeJS.ProcessEnv): Places {
  const programs = path.join(env.ProgramFiles ?? 'C:\\Program Files', serviceName)
  const home = path.join(env.ProgramData ?? 'C:\\ProgramData', serviceName)
  return {
    programs,
    program: path.join(programs, 'daemonguard.exe'),
    home,
    config: path.join(home, 'config.yaml'),
    data: path.join(home, 'data'),
  }
}

/** Every change goes through here, so that --dry-run shows exactly what would be done. */
async function change(options: Options, what: string, work: () => unknown): Promise<void> {
  if (options.dryRun) say(`would ${what}`)
  else await work()
}

export async function install(options: Options): Promise<number> {
  const example = packedText('config.example.yaml')
  if (example === undefined)
    throw new DaemonGuardError('only the packed executable can be installed', {
      hint: 'npm run build, then dist\\daemonguard.exe service install',
    })
  const places = placesOf(process.env)
  if (!options.dryRun) requireAdministrator()
  await change(options, `make ${places.programs}`, () => ensureDirectory(places.programs, 'SERVICE:INSTALL'))
  await change(options, `make ${places.home}, for the system and administrators only`, () => makeHome(places))
  await writeConfigs(places, example, options)
  await change(options, `check ${places.config} with this program`, async () => {
    if ((await execute(process.execPath, ['check', '-c', places.config])) !== 0)
      throw new DaemonGuardError(`${version} refuses ${places.config}; nothing was replaced`, {
        hint: 'correct it, then daemonguard.exe service install again',
      })
  })
  const isUpgrade = queryService(serviceName) !== undefined
  await change(options, `stop the service ${serviceName}, if it runs`, () => stopService(serviceName, stopWithin))
  let previous: string | undefined
  await change(options, `copy ${process.execPath} to ${places.program}`, () => {
    previous = replaceProgram(places)
  })
  await change(options, `make the service ${serviceName}, which starts with Windows, and its source in the event log`, () => define(places))
  await change(options, `start ${serviceName}, and wait until it is healthy`, async () => {
    try {
      await startHealthy(places)
    } catch (error) {
      if (!isUpgrade || previous === undefined) throw error
      await rollBack(places, previous, error)
    }
    say(`running: daemonguard ${version}; psql -h 127.0.0.1 -p 5433; "${places.program}" status`)
    say(`configuration: ${places.config}; log: ${pathsOf(loadConfig({ file: places.config })).agentLog}`)
  })
  return ExitCode.ok
}

/** Windows lets every user make a directory of this name: one that another has made is not taken, with whatever lies in it. */
function makeHome({ programs, home, data }: Places): void {
  if (fs.existsSync(home)) {
    const owner = ownerOf(home)
    // What this process makes belongs to us, by whichever name.
    if (![...powers, ownerOf(programs)].includes(owner))
      throw new DaemonGuardError(`${home} belongs to ${owner}, who is no administrator: what is in it can't be trusted`, {
        hint: `look at it, then remove it, or: icacls "${home}" /setowner *S-1-5-32-544 /T`,
      })
  }
  ensureDirectory(home, 'SERVICE:INSTALL')
  giveToAdministrators(home)
  const isNew = !fs.existsSync(data)
  ensureDirectory(data, 'SERVICE:INSTALL')
  if (isNew) giveToAdministrators(data)
}

async function writeConfigs({ home, config, data }: Places, example: string, options: Options): Promise<void> {
  const sample = path.join(home, 'config.example.yaml')
  await change(options, `write ${sample}`, () =>
    writeAtomic(sample, example.replace(/^( *data_dir:) .*$/m, `$1 ${data}`), 'SERVICE:INSTALL'),
  )
  if (fs.existsSync(config)) say(`kept: ${config}`)
  else await change(options, `write ${config}`, () => writeAtomic(config, configText(data), 'SERVICE:INSTALL'))
  // It may hold passwords, and may have been there before its directory was ours.
  await change(options, `let only the system and administrators read ${config}`, () => giveToAdministrators(config))
}

/** A whole configuration; config.example.yaml lies beside it. */
export function configText(data: string): string {
  return `# DaemonGuard. Every key and its default: config.example.yaml. After a change: daemonguard check, then daemonguard service restart
agent:
  data_dir: ${data}
plugins: {}
`
}

/** Puts this program in its place; returns where the one before lies now, if there was one. */
function replaceProgram({ programs, program }: Places): string | undefined {
  for (const name of fs.readdirSync(programs)) if (/^daemonguard\.exe\.(old|new)/.test(name)) removeUnlessRunning(path.join(programs, name))
  if (samePath(process.execPath, program)) return undefined
  const next = `${program}.new`
  copyDurably(process.execPath, next, 'SERVICE:INSTALL')
  const previous = `${program}.old-${Date.now()}`
  const wasThere = fs.existsSync(program)
  if (wasThere) moveDurably(program, previous, 'SERVICE:INSTALL')
  moveDurably(next, program, 'SERVICE:INSTALL')
  return wasThere ? previous : undefined
}

function define({ program, config }: Places): void {
  defineService({
    name: serviceName,
    description: 'Keeps DuckDB alive and its writes safe. Stopping it leaves the engine running: daemonguard stop --engine.',
    commandLine: `"${program}" service run -c "${config}"`,
    restartMs: [2000, 5000, 30_000],
    resetSeconds: 600,
    preshutdownMs: 5 * 60_000,
  })
  registerSource(serviceName)
}

async function startHealthy({ program, config }: Places): Promise<void> {
  await startService(serviceName, startWithin)
  const isHealthy = async () => (await execute(program, ['status', '-c', config], 'ignore')) === 0
  if (await waitUntil(isHealthy, { deadline: healthyWithin, every: 1000 })) return
  await execute(program, ['status', '-c', config])
  throw new DaemonGuardError(`the service ${serviceName} runs, but it is not healthy; above is why`, { hint: 'daemonguard status' })
}

async function rollBack(places: Places, previous: string, cause: unknown): Promise<never> {
  say('the new version does not become healthy: the old one is put back')
  await stopService(serviceName, stopWithin)
  moveDurably(places.program, `${places.program}.old-failed-${Date.now()}`, 'SERVICE:INSTALL')
  moveDurably(previous, places.program, 'SERVICE:INSTALL')
  try {
    await startHealthy(places)
  } catch (error) {
    throw new DaemonGuardError(
      `the upgrade to ${version} failed, and the version before it, which was put back, is not healthy either: ${messageOf(error)}`,
      { hint: 'daemonguard service status', cause },
    )
  }
  throw new DaemonGuardError(`the upgrade to ${version} failed: ${messageOf(cause)}; the version before it runs again, healthy`, { cause })
}

export async function uninstall(options: Options): Promise<number> {
  const places = placesOf(process.env)
  if (!options.dryRun) requireAdministrator()
  await change(options, `stop the service ${serviceName}`, () => stopService(serviceName, stopWithin))
  if (fs.existsSync(places.config))
    await change(options, 'stop the engine, after a checkpoint', async () => {
      if ((await execute(process.execPath, ['stop', '--engine', '-c', places.config])) !== 0)
        throw new DaemonGuardError('the engine could not be stopped; nothing was removed', {
          hint: 'daemonguard stop --engine, then daemonguard service uninstall again',
        })
    })
  await change(options, `remove the service ${serviceName} and its source in the event log`, () => {
    removeService(serviceName)
    forgetSource(serviceName)
  })
  await change(options, `remove ${places.programs}`, () => removePrograms(places))
  if (options.purge) await change(options, `remove ${places.home}`, () => removeTree(places.home, 'SERVICE:REMOVE'))
  else say(`kept: ${places.home} (daemonguard service uninstall --purge removes it)`)
  return ExitCode.ok
}

/** A program can't remove the file that it runs from; it can put it where files of no use lie. */
function removePrograms({ programs, program }: Places): void {
  if (samePath(process.execPath, program)) {
    const rest = path.join(os.tmpdir(), `daemonguard-uninstalled-${process.pid}.exe`)
    moveAnywhere(program, rest, 'SERVICE:REMOVE')
    say(`this program runs from ${rest} now; remove that when it has ended`)
  }
  try {
    removeTree(programs, 'SERVICE:REMOVE')
  } catch (cause) {
    throw new DaemonGuardError(`the service is gone, but not all of ${programs}: ${messageOf(cause)}`, {
      hint: 'end what still runs from there (an engine: daemonguard stop --engine -c FILE), then remove it',
      cause,
    })
  }
}

function removeUnlessRunning(file: string): void {
  try {
    removeDurably(file, 'SERVICE:INSTALL')
  } catch {
    // An engine runs from it: the next installation removes it.
  }
}

function samePath(one: string, other: string): boolean {
  return path.resolve(one).toLowerCase() === path.resolve(other).toLowerCase()
}

/** Runs a program with this terminal, or silently; resolves with its exit code. */
function execute(program: string, args: readonly string[], stdio: 'inherit' | 'ignore' = 'inherit'): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio, windowsHide: true })
    child.once('error', (cause) => reject(new DaemonGuardError(`${program} cannot be started: ${cause.message}`, { cause })))
    child.once('exit', (code) => resolve(code ?? ExitCode.failed))
  })
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
