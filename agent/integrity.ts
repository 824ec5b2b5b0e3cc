/** A scan of the database file that an engine has open: consistent because the engine starts no checkpoint while it is held. */

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
