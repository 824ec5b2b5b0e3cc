/** What an incident lost, from a recovery report; and how losses add up. "Unknown" is never reported as clean (R8). */

import type { RecoveryReport } from '../control-protocol.ts'
import type { Incident } from '../plugin.ts'

type Loss = Incident['loss']

/** The range that spans all gaps and refused transactions, 0 when there are none. What the opened file holds already is not lost. */
export function lossOf(recovery: RecoveryReport): Loss {
  const first = recovery.watermark + 1
  const gaps = recovery.gaps.filter((gap) => gap.lastSeq >= first).map((gap): Loss => ({ ...gap, firstSeq: Math.max(gap.firstSeq, first) }))
  const refused = recovery.refused.map(({ seq }): Loss => ({ firstSeq: seq, lastSeq: seq, tables: [] }))
  return [...gaps, ...refused].reduce<Loss>(addLoss, 0)
}

/** Both losses in one. An empty list of tables means that they are not known, so it wins. */
export function addLoss(a: Loss, b: Loss): Loss {
  if (a === 'unknown' || b === 'unknown') return 'unknown'
  if (a === 0) return b
  if (b === 0) return a
  return {
    firstSeq: Math.min(a.firstSeq, b.firstSeq),
    lastSeq: Math.max(a.lastSeq, b.lastSeq),
    tables: a.tables.length === 0 || b.tables.length === 0 ? [] : [...new Set([...a.tables, ...b.tables])].sort(),
  }
}

/** True when something of the journal was found damaged. */
export function isDamaged(recovery: RecoveryReport): boolean {
  return recovery.quarantined.length > 0 || recovery.gaps.length > 0 || recovery.refused.length > 0
}

/** For people: `12 transactions replayed in 40 ms, 1 segment quarantined`. */
export function describeRecovery(recovery: RecoveryReport): string {
  const parts = [`opened at seq ${recovery.watermark}, ${recovery.replayed} transactions replayed in ${Math.round(recovery.durationMs)} ms`]
  if (recovery.cutBytes > 0) parts.push(`${recovery.cutBytes} bytes cut from the journal's end (never acknowledged)`)
  if (recovery.withdrawn !== undefined) {
    const { seq, error, kept } = recovery.withdrawn
    parts.push(`seq ${seq} was on its way when the process died, and is withdrawn: ${error}${kept === null ? '' : ` (kept as ${kept})`}`)
  }
  if (recovery.quarantined.length > 0)
    parts.push(`journal segments quarantined: ${recovery.quarantined.map(({ file }) => file).join(', ')}`)
  for (const gap of recovery.gaps)
    parts.push(`seq ${gap.firstSeq} to ${gap.lastSeq} cannot be read${gap.tables.length > 0 ? ` (${gap.tables.join(', ')})` : ''}`)
  for (const { seq, error } of recovery.refused) parts.push(`seq ${seq} was refused: ${error}`)
  return parts.join('; ')
}
