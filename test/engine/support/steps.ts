/** What a workload did, as a list that can be done again: whole, or in part (shrinking.ts). */

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type pg from 'pg'
import copyStreams from 'pg-copy-streams'

export interface Statement {
  /** Which client. */
  readonly on: number
  /** One statement, or several in one simple query. */
  readonly sql: string
  /** Bound parameters: by the extended protocol. */
  readonly values?: readonly unknown[]
  /** What a COPY … FROM STDIN sends. */
  readonly data?: string | Buffer
}

/** Or: the file is brought up to the journal, and copied; the engine is killed, and started again. No transaction is open then. */
export type Step = Statement | { readonly event: 'checkpoint' | 'kill' }

/** The step as SQL to read and to type. */
export function textOf(step: Step): string {
  if ('event' in step) return `-- ${step.event}`
  const { on, sql, values, data } = step
  const sent = values ?? (typeof data === 'string' ? data : data?.toString('hex'))
  const rest = sent === undefined ? '' : ` -- with ${JSON.stringify(sent)}`
  return `/* ${on} */ ${sql};${rest}`
}

/** Runs it; a transaction block that it has failed is ended. Resolves with the SQLSTATE it failed with, or undefined. */
export async function perform(clients: readonly pg.Client[], step: Statement): Promise<string | undefined> {
  const client = clients[step.on] as pg.Client
  try {
    if (step.data !== undefined) await pipeline(Readable.from([Buffer.from(step.data)]), client.query(copyStreams.from(step.sql)))
    else if (step.values !== undefined) await client.query(step.sql, [...step.values])
    else await client.query(step.sql)
    return undefined
  } catch (error) {
    const code = (error as { code?: string }).code ?? 'none'
    if (code === 'none' || code.startsWith('XX') || code.startsWith('08')) {
      throw new Error(`${step.sql}\nfailed: ${code} ${String(error)}`, { cause: error })
    }
    // A COPY rejects before the client knows what its transaction has come to.
    if (step.data !== undefined) await client.query('')
    if (client.getTransactionStatus() === 'E') await client.query('ROLLBACK')
    return `${code} ${(error as Error).message.slice(0, 160).replaceAll('\n', ' ')}`
  }
}
