/**
 * Whether this machine suits a config: directories, space, ports, files, commands. Looks only; creates and writes nothing.
 * A network that is down is no mistake of a config: URLs are checked for their form when the config is read.
 */

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { readIdentity } from './certificate.ts'
import { type KeyPath, keyName } from './config/problem.ts'
import { valueAt } from './config/validate.ts'
import { type Config, documentOf, type Problem } from './config.ts'
import { freeBytes } from './disk.ts'
import { connectTo } from './endpoint.ts'
import { codeOf } from './errors.ts'
import { pathsOf } from './paths.ts'
import { freeSpace, lookAt, lookAtDirectory, whoListens } from './shell.ts'
import { type Address, exposure } from './values.ts'
import { looksLikeVerifier } from './verifier.ts'

/** Least free space, bytes: journal segments are laid out ahead, and a checkpoint needs room beside the file. */
const leastFree = 256 * 1024 * 1024

/** What statfs(2) calls the file systems of the network, where locks and fsync cannot be relied on (linux/magic.h). */
const networkFileSystems: Record<number, string> = { 26985: 'NFS', 20859: 'SMB', 4283649346: 'CIFS', 4266872130: 'SMB2' }

/** Everything about this machine that would keep the config from running; empty when nothing does. */
export async function checkEnvironment(config: Config): Promise<Problem[]> {
  const document = documentOf(config)
  const problems: Problem[] = []
  const report: Report = (keyPath, message, hint, warning = false) => {
    const place = document.locate(keyPath)
    const problem = { line: place?.line ?? null, column: place?.column ?? null, key: keyName(keyPath), message, hint }
    problems.push(warning ? { ...problem, warning } : problem)
  }
  const { engine, agent } = config
  const paths = pathsOf(config)

  const usable = checkDirectory(paths.data, ['agent', 'data_dir'], report)
  if (usable !== undefined) checkSpace(usable, ['agent', 'data_dir'], Math.max(leastFree, sizeOf(paths.database)), report)
  checkDatabase(config, report)
  // A journal inside a data_dir that cannot be used would only repeat its problem.
  if (usable !== undefined || !isWithin(paths.journal, paths.data)) {
    const journal = checkDirectory(paths.journal, ['engine', 'journal_dir'], report)
    if (journal !== undefined && !isWithin(paths.journal, paths.data)) checkSpace(journal, ['engine', 'journal_dir'], leastFree, report)
    checkLocalDisk(journal, ['engine', 'journal_dir'], report)
  }
  if (engine.socket_dir !== null && !isWithin(engine.socket_dir, paths.data))
    checkDirectory(engine.socket_dir, ['engine', 'socket_dir'], report)
  if (engine.schema !== null) checkReadable(engine.schema, ['engine', 'schema'], report)
  if (engine.tls !== null) {
    for (const { file, message, hint, severity } of readIdentity(engine.tls, Date.now()).flaws)
      report(['engine', 'tls', file], message, hint, severity === 'warning')
  }
  for (const index of engine.auth.users.keys()) checkPassword(config, ['engine', 'auth', 'users', index, 'password'], report)
  for (const [index, alert] of agent.alerts.entries())
    if ('exec' in alert) checkCommand(alert.exec[0]!, ['agent', 'alerts', index, 'exec'], report)
  await checkPort(agent.listen, ['agent', 'listen'], { socket: paths.agentSocket, file: paths.agentFile }, report)
  await checkPort(engine.listen, ['engine', 'listen'], { socket: paths.controlSocket, file: paths.engineFile }, report)
  return problems
}

type Report = (key: KeyPath, message: string, hint: string, warning?: boolean) => void

function isWithin(file: string, directory: string): boolean {
  const relative = path.relative(directory, file)
  return relative === '' || (!relative.startsWith('..') && !path.isAbsolute(relative))
}

/** A directory that is writable, or can be made: returns the existing one that it is, or would be made in; undefined after a problem. */
function checkDirectory(directory: string, key: KeyPath, report: Report): string | undefined {
  let existing = directory
  let found: fs.Stats | undefined
  // A stat below a file says ENOTDIR, which throwIfNoEntry covers as well as ENOENT.
  for (;;) {
    try {
      found = fs.statSync(existing, { throwIfNoEntry: false })
    } catch {
      report(key, `${directory}: permission denied`, lookAtDirectory(path.dirname(existing)))
      return undefined
    }
    if (found !== undefined || path.dirname(existing) === existing) break
    existing = path.dirname(existing)
  }
  const creating = existing === directory ? '' : `, so that ${directory} cannot be created`
  if (found !== undefined && !found.isDirectory()) {
    report(key, `${existing} is not a directory${creating}`, `move it away, or choose another path: ${lookAtDirectory(existing)}`)
    return undefined
  }
  const refused = accessError(existing, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK)
  if (refused === undefined) return existing
  const why = refused === 'EROFS' ? 'is on a read-only file system' : 'is not writable for this user'
  report(
    key,
    `${existing} ${why}${creating}`,
    creating === ''
      ? lookAtDirectory(existing)
      : process.platform === 'win32'
        ? `create it for this user: mkdir "${directory}"`
        : `create it for this user: sudo install -d -m 700 -o $(id -un) ${directory}`,
  )
  return undefined
}

/** The code of what stands in the way, or undefined. */
function accessError(file: string, mode: number): string | undefined {
  try {
    fs.accessSync(file, mode)
    return undefined
  } catch (error) {
    return codeOf(error) ?? 'unknown error'
  }
}

function sizeOf(file: string): number {
  try {
    return fs.statSync(file).size
  } catch {
    return 0
  }
}

function checkSpace(directory: string, key: KeyPath, needed: number, report: Report): void {
  const free = freeBytes(directory)
  if (free >= needed) return
  const megabytes = (bytes: number) => `${Math.floor(bytes / 1e6)} MB`
  report(
    key,
    `only ${megabytes(free)} are free on the disk of ${directory}, at least ${megabytes(needed)} are needed`,
    `free some, or choose another disk: ${freeSpace(directory)}`,
  )
}

function checkLocalDisk(directory: string | undefined, key: KeyPath, report: Report): void {
  const name = directory === undefined || process.platform !== 'linux' ? undefined : networkFileSystems[fs.statfsSync(directory).type]
  if (name !== undefined)
    report(
      key,
      `${directory} is on a network file system (${name}), where locks and fsync cannot be relied on`,
      'choose a directory on a local disk',
    )
}

/** A password that stands in the config itself is as public as the config. */
function checkPassword(config: Config, key: KeyPath, report: Report): void {
  const document = documentOf(config)
  const written = valueAt(document.value, key)
  if (typeof written !== 'string' || written.startsWith('file:') || looksLikeVerifier(written) || document.isExpanded(key)) return
  const exposed = statOf(config.file) === undefined ? undefined : exposure(config.file)
  if (exposed !== undefined) report(key, exposed.message, `${exposed.hint}; or write what \`daemonguard password\` prints`)
}

/** The database file, if it is there, can be read and written; if it lies outside of data_dir, its directory is usable as well. */
function checkDatabase(config: Config, report: Report): void {
  const { database } = config.engine
  const key = ['engine', 'database']
  if (!isWithin(database, config.agent.data_dir)) checkDirectory(path.dirname(database), key, report)
  const stat = statOf(database)
  if (stat === undefined) return
  if (!stat.isFile()) report(key, `${database} is not a file`, 'name a .duckdb file, existing or new')
  else if (accessError(database, fs.constants.R_OK | fs.constants.W_OK) !== undefined) {
    report(key, `${database} is not readable and writable for this user`, lookAt(database))
  }
}

function statOf(file: string): fs.Stats | undefined {
  try {
    return fs.statSync(file)
  } catch {
    return undefined
  }
}

function checkReadable(file: string, key: KeyPath, report: Report): void {
  const refused = accessError(file, fs.constants.R_OK)
  if (refused === 'ENOENT' || refused === 'ENOTDIR')
    report(key, `there is no file ${file}`, `its path is read from the directory of the config: ${lookAt(file)}`)
  else if (refused !== undefined) report(key, `${file} is not readable for this user`, lookAt(file))
  else if (!fs.statSync(file).isFile()) report(key, `${file} is not a file`, 'name a file of SQL statements')
}

/** A command of an alert: an executable path, or a name that PATH leads to. */
function checkCommand(command: string, key: KeyPath, report: Report): void {
  const places = /[/\\]/.test(command)
    ? [command]
    : (process.env.PATH ?? '').split(path.delimiter).map((directory) => path.join(directory, command))
  if (process.platform === 'win32' && /\.(cmd|bat)$/i.test(command))
    report(key, 'a script cannot be started by itself', 'write [cmd.exe, /d, /c, FILE]')
  const endings = process.platform === 'win32' ? ['', '.exe', '.com'] : ['']
  const runnable = (file: string) =>
    endings.some((ending) => accessError(file + ending, fs.constants.X_OK) === undefined && statOf(file + ending)?.isFile() === true)
  if (!places.some(runnable))
    report(key, 'there is no such command for this user', 'write its absolute path, and make it executable: chmod +x FILE')
}

/** A port that is free, or taken by the agent or engine of this very data directory. */
async function checkPort(address: Address, key: KeyPath, own: { socket: string; file: string }, report: Report): Promise<void> {
  const refused = await listenError(address)
  if (refused === undefined) return
  if (refused === 'EADDRINUSE') {
    if (!(await isOurs(address, own)))
      report(
        key,
        `port ${address.port} is in use by another program`,
        `choose another port, or see who has it: ${whoListens(address.port)}`,
      )
  } else if (refused === 'EADDRNOTAVAIL' || refused === 'ENOTFOUND' || refused === 'EAI_AGAIN') {
    report(key, `${address.host} is no address of this machine`, 'write 127.0.0.1 as its host')
  } else if (refused === 'EACCES') {
    report(key, `port ${address.port} is reserved for root`, 'choose a port above 1023')
  } else report(key, `cannot listen there (${refused})`, 'choose another address')
}

/** The code of what keeps this process from listening there for a moment, or undefined. */
function listenError(address: Address): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => socket.destroy())
    server.once('error', (error) => resolve(codeOf(error) ?? 'unknown error'))
    server.listen({ ...address, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}

/** Whether the process that serves this data directory says, in its file, that it listens there; its control socket must answer. */
async function isOurs(address: Address, own: { socket: string; file: string }): Promise<boolean> {
  if (!(await answers(own.socket))) return false
  try {
    const listen = JSON.parse(fs.readFileSync(own.file, 'utf8')).listen
    return listen === undefined || listen.port === address.port
  } catch {
    return true
  }
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connectTo(socket)
    const end = (answer: boolean) => {
      connection.destroy()
      resolve(answer)
    }
    connection.setTimeout(1000, () => end(false))
    connection.once('connect', () => end(true))
    connection.once('error', () => end(false))
  })
}
