/** The timeouts that a session sets for itself: names, values as Postgres writes them. */

import { SqlError } from './sql-error.ts'

export const timeoutNames: ReadonlySet<string> = new Set(['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'])

const units: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }
/** What a timer of Node's can wait. */
const longest = 2 ** 31 - 1

/** Milliseconds; 0: none. Throws 22023. */
export function milliseconds(name: string, value: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/.exec(value)
  const unit = units[match?.[2] || 'ms']
  const result = Math.ceil(Number(match?.[1]) * (unit ?? Number.NaN))
  if (!(result >= 0 && result <= longest))
    throw new SqlError('22023', `invalid value for parameter "${name}": "${value}"`, {
      hint: "milliseconds, or '5s', '1min', '1h'; 0 for none",
    })
  return result
}

/** As SHOW prints it. */
export function durationText(ms: number): string {
  const unit = (['d', 'h', 'min', 's'] as const).find((name) => ms > 0 && ms % (units[name] as number) === 0)
  return ms === 0 ? '0' : unit === undefined ? `${ms}ms` : `${ms / (units[unit] as number)}${unit}`
}
