/** `scan`: of any .duckdb file, without a config and without DuckDB; or of the guarded database, while checkpoints are held. */

import path from 'node:path'
import { askAgent, NoAgent } from '../agent-control.ts'
import { describeDamage } from '../duckfile/reader.ts'
import { type ScanResult, scanFile } from '../duckfile/scan.ts'
import { EngineClient } from '../engine-client.ts'
import { ExitCode } from '../errors.ts'
import { scanHeld } from '../integrity.ts'
import type { Paths } from '../paths.ts'
import { bytes, duration } from '../status-report.ts'
import { type Call, type Command, jsonOption, print } from './command.ts'
import { locate, locateReadRate } from './configuration.ts'

const command: Command = {
  usage: 'scan [FILE] [--json] [-c FILE]',
  help: [
    'Verifies the checksum of both headers, the free list and every live block.',
    'With FILE: any .duckdb file, without opening it in DuckDB; needs no configuration.',
    "Without: the guarded database, beside its writers, at integrity-scanner's max_read_rate.",
    'Exit codes: 0 clean; 1 damaged; 3 inconclusive (it could not be read to its end, or kept changing).',
  ],
  options: jsonOption,
  positionals: { least: 0, most: 1 },
  async run(call) {
    const [file] = call.positionals
    if (file !== undefined) return tell(call, path.resolve(file), await scanFile(path.resolve(file)))
    const { paths } = await locate(call)
    return tell(call, paths.database, await scanGuarded(call, paths))
  },
}
export default command

/** By the agent if one runs; else from here, holding the engine's checkpoints if one serves. Never from the engine's own process. */
async function scanGuarded(call: Call, paths: Paths): Promise<ScanResult> {
  try {
    return await askAgent<ScanResult>(paths.agentSocket, 'scan')
  } catch (error) {
    if (!(error instanceof NoAgent)) throw error
  }
  const client = await EngineClient.connect(paths.controlSocket).catch(() => undefined)
  if (client === undefined) return await scanFile(paths.database)
  try {
    return await scanHeld(client, paths.database, { maxBytesPerSecond: await locateReadRate(call) })
  } finally {
    client.close()
  }
}

const exitCodes = { clean: ExitCode.ok, damaged: ExitCode.failed, inconclusive: ExitCode.unknown } as const

function tell(call: Call, file: string, result: ScanResult): number {
  const lines = [`${file}: ${result.verdict}${result.reason === undefined ? '' : `: ${result.reason}`}`]
  if (result.verdict === 'clean')
    lines.push(`  ${result.liveBlocks} live blocks verified, ${bytes(result.bytesRead)} in ${duration(result.durationMs)}`)
  const shown = result.damage.slice(0, 20)
  for (const damage of shown) lines.push(`  ${describeDamage(damage)}`)
  if (result.damage.length > shown.length) lines.push(`  and ${result.damage.length - shown.length} more`)
  if (result.walBytes > 0) lines.push(`  not covered: the .wal beside it (${bytes(result.walBytes)})`)
  if (result.verdict === 'damaged' && call.positionals.length === 0)
    lines.push('  hint: the integrity scanner restores by itself at its next run; at once: daemonguard restore')
  print(call, { file, ...result }, lines)
  return exitCodes[result.verdict]
}
