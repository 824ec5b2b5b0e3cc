/**
 * watchdog: asks the engine the way a client does, every few seconds. A crash is the supervisor's to notice, at once; the watchdog
 * finds what lives and does not answer. `failures_before_alert` failed probes in a row: one alert, and the engine is replaced.
 */

import { z } from 'zod'
import { messageOf } from '../agent/errors.ts'
import { definePlugin } from '../agent/plugin.ts'
import { cron, duration } from '../agent/values.ts'

/** SQLSTATE class 53, insufficient resources: a full disk, too many connections. The engine lives, says so, and a restart would not help. */
const shortOfResources = (error: unknown) => String((error as { code?: unknown } | null)?.code ?? '').startsWith('53')

export default definePlugin({
  name: 'watchdog',
  options: z.strictObject({
    schedule: cron().default('*/5 * * * * *'),
    /** Of one probe. */
    timeout: duration({ min: '10ms' }).prefault('2s'),
    failures_before_alert: z.int().positive().default(3),
    /** Restarts that may fail inside `restart_window` before the supervisor stops trying. */
    max_restarts: z.int().positive().default(3),
    restart_window: duration({ min: '1s' }).prefault('10m'),
  }),
  async start(ctx, options) {
    let probes = 0
    let failures = 0
    let failuresInRow = 0
    let lastMs: number | null = null
    let lastAt: number | null = null
    let lastError: string | null = null
    let alerted = false
    let restarting = false
    ctx.supervisor.configure({ maxRestarts: options.max_restarts, restartWindowMs: options.restart_window })

    function succeeded(ms: number): void {
      if (alerted) ctx.log.info('the engine answers again')
      failuresInRow = 0
      alerted = false
      lastMs = ms
      lastAt = ctx.clock.now()
      lastError = null
      ctx.supervisor.probed()
    }

    function failed(error: unknown, late: boolean): void {
      failures += 1
      failuresInRow += 1
      lastError = late ? `no answer within ${options.timeout} ms` : messageOf(error)
      ctx.log.warn({ failuresInRow }, `a probe failed: ${lastError}`)
      if (failuresInRow < options.failures_before_alert) return
      const answers = !late && shortOfResources(error)
      if (!alerted) {
        alerted = true
        const doing = answers ? 'it lives, so it is left alone' : 'restarting it'
        ctx.alert(`the engine failed ${failuresInRow} probes in a row (${lastError}): ${doing}`, { failures: failuresInRow, lastError })
      }
      // Asked again after as many failures, should a restart not have helped.
      if (!answers && failuresInRow % options.failures_before_alert === 0) void restart()
    }

    /** Not awaited by the tick: a recovery may take longer than a probe's deadline. */
    async function restart(): Promise<void> {
      if (restarting) return
      restarting = true
      try {
        await ctx.supervisor.restart(`${failuresInRow} probes in a row failed: ${lastError}`)
      } catch (error) {
        ctx.log.warn(`the engine was not restarted: ${messageOf(error)}`)
      } finally {
        restarting = false
      }
    }

    // The scheduler's deadline leaves the probe time to clean up after its own.
    ctx.schedule(options.schedule, options.timeout + 2000, async (signal) => {
      probes += 1
      const timeout = AbortSignal.timeout(options.timeout)
      try {
        succeeded(await ctx.engine.probe(AbortSignal.any([signal, timeout])))
      } catch (error) {
        // Ended because the agent stops: that says nothing about the engine.
        if (signal.aborted && !timeout.aborted) return
        failed(error, timeout.aborted)
      }
    })
    return {
      health: () => ({
        healthy: failuresInRow === 0,
        summary:
          failuresInRow > 0
            ? `${failuresInRow} probes in a row failed: ${lastError}`
            : lastMs === null
              ? 'not probed yet'
              : `answered in ${lastMs.toFixed(1)} ms`,
        facts: { probes, failures, failuresInRow, lastProbeMs: lastMs, lastProbeAt: lastAt },
      }),
      async stop() {},
    }
  },
})
