/** A scan of the database file that an engine has open: consistent because the engine starts no checkpoint while it is held. */

import type { Config } from './config.ts'
import { type ScanOptions, type ScanResult, scanFile } from './duckfile/scan.ts'
import type { EngineControl } from './plugin.ts'

/** Scans `file` under a hold. A hold that was lost on the way makes "clean" inconclusive; damage was confirmed by repeated reads. */
export async function scanHeld(engine: EngineControl, file: string, options: ScanOptions = {}): Promise<ScanResult> {
  const hold = await engine.hold(options.signal)
  try {
    const result = await scanFile(file, { ...options, held: hold })
    if (hold.lost && result.verdict !== 'inconclusive')
      return { ...result, verdict: 'inconclusive', reason: 'the engine ended during the scan' }
    return result
  } finally {
    await hold.release().catch(() => {})
  }
}

/** The plugin that scans, and takes snapshots. */
export const scanner = 'integrity-scanner'

/**
 * Bytes a second that a scan or a snapshot reads at most which an operator asks for beside an engine: what the configuration allows the scanner. Undefined: no
 * limit, since there is no scanner.
 */
export function readRateOf({ plugins }: Pick<Config, 'plugins'>): number | undefined {
  const options = plugins.find(({ name }) => name === scanner)?.options as { max_read_rate?: number } | undefined
  return options?.max_read_rate
}
