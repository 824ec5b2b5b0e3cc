/**
 * checkpointer: orders a checkpoint after every `every_transactions` journaled transactions (or as many as PRAGMA wal_autocheckpoint has
 * set), though at most one a second, and by cron when there is anything new.
 * The engine refuses one, harmlessly, while certain transactions are open; it is then asked again soon, ends the oldest of them itself when it has
 * refused for long enough, and after 10 minutes the operator is told who is in the way: until a checkpoint succeeds, a recovery has more of the journal to replay.
 */

import { z } from 'zod'
import { DaemonGuardError, messageOf } from '../agent/errors.ts'
import { definePlugin } from '../agent/plugin.ts'
import { cron } from '../agent/values.ts'

/**
 * From the end of one checkpoint to the next that is due by number. Each holds writers up for 8 to 20 ms: under 20,000 transactions a second there
 * would be four of them, which more than one in a hundred of 64 clients' acknowledgements would wait for. What a second brings is replayed in less than a tenth of one.
 */
const spacingMs = 1000
const firstPauseMs = 1000
const longestPauseMs = 15_000
const patienceMs = 600_000
/** How long a change of PRAGMA wal_autocheckpoint may go unnoticed. */
const lookEveryMs = 5_000

export default definePlugin({
  name: 'checkpointer',
  options: z.strictObject({
    every_transactions: z.int().positive().default(5000),
    schedule: cron().default('0 * * * *'),
  }),
  async start(ctx, options) {
    const stopping = new AbortController()
    /** Ends the pauses of the engine that went away. */
    let engineGone = new AbortController()
    /** Null until it is known: nothing is due by count before. */
    let watermark: number | null = null
    let durable = 0
    let every = options.every_transactions
    let lookedAt = ctx.clock.monotonic()
    let checkpoints = 0
    let refusals = 0
    let lastAt: number | null = null
    /** When the last one of this engine succeeded, monotonic. */
    let succeededAt = Number.NEGATIVE_INFINITY
    let spacing = false
    let lastError: string | null = null
    /** Since when a checkpoint has been due and refused, monotonic. */
    let overdueSince: number | null = null
    let alerted = false
    let working: Promise<void> | null = null

    const overdueMs = () => (overdueSince === null ? 0 : ctx.clock.monotonic() - overdueSince)

    function succeeded(at: number): void {
      if (alerted) ctx.log.info(`the checkpoint that was put off has succeeded at seq ${at}`)
      watermark = at
      checkpoints += 1
      lastAt = ctx.clock.now()
      succeededAt = ctx.clock.monotonic()
      lastError = null
      overdueSince = null
      alerted = false
    }

    function refused(error: unknown): void {
      refusals += 1
      lastError = messageOf(error)
      overdueSince ??= ctx.clock.monotonic()
      ctx.log.info(`a checkpoint was refused: ${lastError}`)
      if (overdueMs() < patienceMs || alerted) return
      alerted = true
      ctx.alert(`no checkpoint for ${Math.round(overdueMs() / 60_000)} minutes: ${lastError}`, {
        watermark,
        durable,
        hint: (error instanceof DaemonGuardError ? error.hint : undefined) ?? 'daemonguard status',
      })
    }

    /** Asks until a checkpoint succeeds, the engine goes away, or the plugin stops. One at a time. */
    function checkpoint(): Promise<void> {
      working ??= ask().finally(() => {
        working = null
        // What came in meanwhile may be due already.
        if (!engineGone.signal.aborted) void checkpointIfDue()
      })
      return working
    }

    async function ask(): Promise<void> {
      const signal = AbortSignal.any([stopping.signal, engineGone.signal])
      for (let pauseMs = firstPauseMs; !signal.aborted; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
        try {
          succeeded((await ctx.engine.checkpoint(signal)).watermark)
          return
        } catch (error) {
          if (signal.aborted) return
          refused(error)
        }
        await ctx.clock.sleep(pauseMs, signal)
      }
    }

    const isDue = () => watermark !== null && durable - watermark >= every && !stopping.signal.aborted

    /** By number; as soon as the last one is long enough ago. */
    async function checkpointIfDue(): Promise<void> {
      if (!isDue() || spacing || working !== null) return
      spacing = true
      try {
        const signal = AbortSignal.any([stopping.signal, engineGone.signal])
        // Cron may make one meanwhile.
        while (!signal.aborted && isDue() && early() > 0) await ctx.clock.sleep(early(), signal)
      } finally {
        spacing = false
      }
      if (isDue()) await checkpoint()
    }

    const early = () => spacingMs - (ctx.clock.monotonic() - succeededAt)

    /** Learns where the engine is; its watermark may be another one after a restart. */
    async function look(signal?: AbortSignal): Promise<void> {
      lookedAt = ctx.clock.monotonic()
      const status = await ctx.engine.status(signal)
      every = status.checkpointEvery ?? options.every_transactions
      watermark = status.watermark
      durable = status.durableSeq
      lastAt = status.lastCheckpointAt ?? lastAt
    }

    async function begin(): Promise<void> {
      try {
        await look()
        void checkpointIfDue()
      } catch (error) {
        ctx.log.debug(`the engine's status is not known yet: ${messageOf(error)}`)
      }
    }

    ctx.onEngine((state) => {
      if (state === 'up') {
        engineGone = new AbortController()
        void begin()
        return
      }
      engineGone.abort()
      watermark = null
      succeededAt = Number.NEGATIVE_INFINITY
      overdueSince = null
    })
    ctx.onDurable((seq) => {
      durable = seq
      if (isDue()) void checkpointIfDue()
      else if (ctx.clock.monotonic() - lookedAt >= lookEveryMs) void begin()
    })
    ctx.schedule(options.schedule, 60_000, async (signal) => {
      await look(signal)
      // A refused one goes on in the background: the next tick finds it under way.
      if (watermark !== null && durable > watermark) await Promise.race([checkpoint(), aborted(signal)])
    })
    void begin()
    return {
      health() {
        const behind = watermark === null ? null : durable - watermark
        const put = overdueMs() >= patienceMs ? `; put off for ${Math.round(overdueMs() / 60_000)} minutes: ${lastError}` : ''
        return {
          healthy: put === '',
          summary:
            watermark === null
              ? 'waiting for the engine'
              : `the file holds seq ${watermark}, ${behind} transactions are in the journal only, one is due after ${every}${put}`,
          facts: {
            watermark,
            transactionsSinceCheckpoint: behind,
            everyTransactions: every,
            checkpoints,
            refusals,
            lastCheckpointAt: lastAt,
          },
        }
      },
      async stop() {
        stopping.abort()
        await working
      },
    }
  },
})

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
