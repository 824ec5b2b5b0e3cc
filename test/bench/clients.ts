/** The real clients that drive both wire sides alike: pgbench for many small transactions, psql for one large statement. */

import fs from 'node:fs'
import path from 'node:path'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { percentile } from './statistics.ts'
import { scriptVariables } from './trades.ts'

/** A server that speaks the Postgres wire, reached over its Unix socket. */
export interface WirePeer {
  readonly name: string
  readonly socketDirectory: string
  readonly port: number
  readonly user: string
  readonly database: string
}

/** How long a load lasts: seconds, or transactions of each client. */
export type Length = { readonly seconds: number } | { readonly transactions: number }

export interface Load {
  readonly script: string
  readonly clients: number
  readonly length: Length
  /** First key; no other run has used keys from here on (trades.ts). */
  readonly base: number
  /** Transactions a second, all clients together; without it as many as go. */
  readonly rate?: number
  /** The values stand in the text of the statements, nothing is prepared. */
  readonly written?: boolean
}

export interface LoadResult {
  readonly perSecond: number
  readonly count: number
  /** Milliseconds from statement to acknowledgement, ascending. */
  readonly latencies: Float64Array
}

export function p99(result: LoadResult): number {
  return percentile(result.latencies, 99)
}

/** Largest time any client may take for one step. */
const deadline = 3_600_000

function address(peer: WirePeer): string[] {
  return ['-h', peer.socketDirectory, '-p', String(peer.port), '-U', peer.user]
}

/** Runs pgbench, with prepared statements unless the load says otherwise. Throws when it, or one of its transactions, fails. */
export async function pgbench(peer: WirePeer, load: Load): Promise<LoadResult> {
  const directory = temporaryDirectory('pgbench')
  const script = path.join(directory, 'script.sql')
  fs.writeFileSync(script, load.script)
  const { clients, length, rate, written = false } = load
  const args = [
    ...['-n', '-M', written ? 'simple' : 'prepared', '-f', script, '-c', String(clients), '-j', String(Math.min(clients, 2))],
    ...('seconds' in length ? ['-T', String(length.seconds)] : ['-t', String(length.transactions)]),
    ...(rate === undefined ? [] : ['-R', String(rate)]),
    ...['--log', `--log-prefix=${path.join(directory, 'log')}`],
    ...Object.entries(scriptVariables(load.base, written)).flatMap(([name, value]) => ['-D', `${name}=${value}`]),
    ...address(peer),
    peer.database,
  ]
  const { code, stdout, stderr } = await runChild('pgbench', args, { deadline })
  const perSecond = /^tps = ([\d.]+)/m.exec(stdout)?.[1]
  const failed = /number of failed transactions: (\d+)/.exec(stdout)?.[1]
  if (code !== 0 || perSecond === undefined || (failed ?? '0') !== '0')
    throw new Error(`pgbench on ${peer.name} failed (exit ${code}, ${failed ?? 'unknown'} failed transactions):
${beginning(stderr)}`)
  const latencies = readLatencies(directory)
  fs.rmSync(directory, { recursive: true })
  return { perSecond: Number(perSecond), count: latencies.length, latencies }
}

/** The first error of many clients says enough. */
function beginning(text: string): string {
  return text.split('\n').slice(0, 6).join('\n')
}

/** The third field of each line of pgbench's per-transaction logs, one per thread: microseconds. */
function readLatencies(directory: string): Float64Array {
  const micros = fs
    .readdirSync(directory)
    .filter((name) => name.startsWith('log.'))
    .flatMap((name) => fs.readFileSync(path.join(directory, name), 'utf8').trimEnd().split('\n'))
    .map((line) => Number(line.split(' ')[2]))
  return Float64Array.from(micros, (value) => value / 1000).sort()
}

/** Runs statements one by one. Throws with what the server said. */
export async function psql(peer: WirePeer, statements: readonly string[], more: readonly string[] = []): Promise<string> {
  const args = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', ...more, ...address(peer)]
  const commands = statements.flatMap((statement) => ['-c', statement])
  const { code, stdout, stderr } = await runChild('psql', [...args, ...commands, peer.database], { deadline })
  if (code !== 0) throw new Error(`psql on ${peer.name} failed (exit ${code}):\n${beginning(stderr)}`)
  return stdout
}

/** Milliseconds of one statement as psql times it: from sending it until all of its answer has arrived. Rows are thrown away. */
export async function timedPsql(peer: WirePeer, statement: string): Promise<number> {
  const output = await psql(peer, ['\\timing on', statement], ['-o', '/dev/null'])
  const time = /^Time: ([\d.]+) ms/m.exec(output)?.[1]
  if (time === undefined) throw new Error(`psql on ${peer.name} told no time:\n${output}`)
  return Number(time)
}

/** `\copy` of a CSV file without a header. */
export function copyFrom(file: string, table: string): string {
  return `\\copy ${table} from '${file}' with (format csv)`
}
