/**
 * Verifies the database file every few minutes, takes a verified snapshot every hour, and lets old snapshots and journal segments go.
 *
 * Scans and copies read the file while the engine holds back checkpoints, with writers at full speed. When the
 * file is damaged, the supervisor puts the newest good snapshot in its place and has the journal replayed: nothing is lost. A scan that could not be
 * finished is 'inconclusive' and changes nothing that is known: only a whole clean one counts.
 */

import path from 'node:path'
import { z } from 'zod'
import {
  cursorsIn,
  type Damage,
  DamagedFileError,
  definePlugin,
  type Incident,
  listSnapshots,
  type PluginContext,
  type PluginHealth,
  prune,
  type RunningPlugin,
  retain,
  type ScanResult,
  scanFile,
  takeSnapshot,
} from '../agent/plugin.ts'
import { cron, rate } from '../agent/values.ts'

const options = z.strictObject({
  /** When to scan. */
  schedule: cron().default('*/15 * * * *'),
  /** Bytes per second that a scan or a copy may read. */
  max_read_rate: rate().prefault('200MB'),
  snapshots: z
    .strictObject({
      schedule: cron().default('0 * * * *'),
      /** How many verified snapshots stay. */
      keep: z.int().min(1).default(6),
    })
    .prefault({}),
})

/** A scan or copy of this length is stuck, or holds back checkpoints for too long. */
const deadline = 60 * 60_000
/** Pauses between attempts at the first snapshot: the engine may still be starting. */
const firstSnapshotPause = 5000

export default definePlugin({
  name: 'integrity-scanner',
  options,
  async start(context, parsed): Promise<RunningPlugin> {
    const scanner = new IntegrityScanner(context, parsed)
    context.schedule(parsed.schedule, deadline, (signal) => scanner.scan(signal))
    context.schedule(parsed.snapshots.schedule, deadline, (signal) => scanner.snapshot(signal))
    scanner.start()
    return scanner
  },
})

class IntegrityScanner implements RunningPlugin {
  #context: PluginContext
  #options: z.output<typeof options>
  #stopping = new AbortController()
  /** One scan or copy at a time, so that the read rate is not doubled. */
  #queue: Promise<unknown> = Promise.resolve()
  #lastScan: { at: number; result: ScanResult } | undefined
  /** When all live blocks were last verified, by a scan or a snapshot. */
  #lastClean: number | undefined
  #lastSnapshot: { at: number; seq: number } | undefined
  #snapshotProblem: string | undefined
  #snapshotFailures = 0
  #restoring = false
  /** Damage that could not be repaired yet: the next scan tries again. */
  #unrestored: Incident | undefined

  constructor(context: PluginContext, parsed: z.output<typeof options>) {
    this.#context = context
    this.#options = parsed
  }

  /** Takes the first snapshot as soon as the engine lets it. */
  start(): void {
    void this.#firstSnapshot().catch((error) => this.#context.log.error({ err: error }, 'the first snapshot failed'))
  }

  async #firstSnapshot(): Promise<void> {
    const { clock, engine, paths, log } = this.#context
    const { signal } = this.#stopping
    for (; !signal.aborted; await clock.sleep(firstSnapshotPause, signal)) {
      if (this.#lastSnapshot !== undefined) return
      try {
        const { databaseId } = await engine.status(signal)
        const newest = listSnapshots(paths.snapshots, databaseId).find(({ usable }) => usable)
        if (newest === undefined) return await this.snapshot(signal)
        this.#lastSnapshot = { at: newest.createdAt, seq: newest.seq }
        return
      } catch (error) {
        log.debug({ err: error }, `no first snapshot yet: ${textOf(error)}`)
      }
    }
  }

  /** One scan of the held file. Rejects when no engine is there. */
  scan(signal: AbortSignal): Promise<void> {
    return this.#alone(signal, async (both) => {
      const { engine, paths, clock, log } = this.#context
      const hold = await engine.hold(both)
      let result: ScanResult
      try {
        result = await scanFile(paths.database, { maxBytesPerSecond: this.#options.max_read_rate, signal: both, clock, held: hold })
      } finally {
        await hold.release().catch(() => {})
      }
      // The engine has ended meanwhile: what was scanned may be a file that recovery has long moved away.
      if (hold.lost) Object.assign(result, { verdict: 'inconclusive', reason: 'the engine ended during the scan' })
      const iteration = result.databaseHeader?.iteration
      if (result.verdict === 'clean' && iteration !== hold.iteration) {
        result.verdict = 'inconclusive'
        result.reason = `the file is at checkpoint ${iteration}, the engine's last one was ${hold.iteration}: another program may have written it`
        this.#context.alert(result.reason)
      }
      this.#lastScan = { at: clock.now(), result }
      if (result.verdict === 'clean') this.#lastClean = clock.now()
      const { damage, ...facts } = result
      log[result.verdict === 'clean' ? 'info' : 'warn'](
        { ...facts, damaged: damage.length },
        `scan: ${result.verdict}${result.reason === undefined ? '' : `: ${result.reason}`}`,
      )
      if (result.verdict === 'damaged') await this.#damaged(result.reason ?? '', damage)
    })
  }

  /** One snapshot; then what is superfluous goes. Rejects when it could not be taken for any other reason than damage. */
  snapshot(signal: AbortSignal): Promise<void> {
    return this.#alone(signal, async (both) => {
      const { engine, paths, clock, log } = this.#context
      try {
        const taken = await takeSnapshot({ engine, paths, clock, signal: both, maxBytesPerSecond: this.#options.max_read_rate })
        this.#lastSnapshot = { at: taken.createdAt, seq: taken.seq }
        this.#lastClean = clock.now()
        this.#snapshotProblem = undefined
        this.#snapshotFailures = 0
        log.info({ file: taken.file, seq: taken.seq, bytes: taken.manifest.bytes }, `snapshot at seq ${taken.seq}`)
        this.#tidy(taken.manifest.databaseId)
      } catch (error) {
        this.#snapshotProblem = textOf(error)
        this.#snapshotFailures++
        if (!(error instanceof DamagedFileError)) throw error
        await this.#damaged(error.message, error.damage)
      }
    })
  }

  #tidy(databaseId: string): void {
    const { paths, log } = this.#context
    const pruned = prune(paths.snapshots, databaseId, this.#options.snapshots.keep)
    if (pruned.length > 0) log.info({ pruned }, 'removed superfluous snapshots')
    const snapshots = listSnapshots(paths.snapshots, databaseId).filter(({ usable }) => usable)
    const retired = retain({ journalDir: paths.journal, cursors: cursorsIn(path.join(paths.data, 'cursors'), databaseId), snapshots })
    if (retired.length > 0) log.info({ retired }, 'removed journal segments that every consumer and every snapshot is past')
  }

  /** The supervisor records the incident, with its loss and downtime. One that it can't take on is recorded here, once. */
  async #damaged(reason: string, damage: readonly Damage[]): Promise<void> {
    const { incidents, supervisor, paths, alert } = this.#context
    const evidence = { file: paths.database, damagedBlocks: damage.length, damage: damage.slice(0, 20) }
    this.#restoring = true
    try {
      await supervisor.restoreDatabase(reason, evidence)
      // What was said of the old file does not hold for the new one.
      this.#lastScan = undefined
      this.#snapshotProblem = undefined
      this.#snapshotFailures = 0
      if (this.#unrestored !== undefined) incidents.close(this.#unrestored, { actions: ['the database was restored later'] })
      this.#unrestored = undefined
    } catch (error) {
      const message = `the database file is damaged and could not be replaced: ${textOf(error)}`
      this.#unrestored ??= incidents.open({
        severity: 'critical',
        cause: 'database-corrupt',
        message,
        loss: 'unknown',
        evidence: { reason, ...evidence },
        hint: 'daemonguard status',
      })
      alert(message, { reason })
      throw error
    } finally {
      this.#restoring = false
    }
  }

  #alone(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const both = AbortSignal.any([signal, this.#stopping.signal])
    const turn = this.#queue.then(() => (both.aborted ? undefined : work(both)))
    this.#queue = turn.catch(() => {})
    return turn
  }

  health(): PluginHealth {
    const { clock } = this.#context
    const ageOf = (at: number | undefined) => (at === undefined ? null : Math.round((clock.now() - at) / 1000))
    const scan = this.#lastScan
    const cleanAge = ageOf(this.#lastClean)
    const facts = {
      last_verdict: scan?.result.verdict ?? 'unknown',
      last_scan_age_seconds: ageOf(scan?.at),
      last_clean_age_seconds: cleanAge,
      live_blocks: scan?.result.liveBlocks ?? null,
      scan_duration_ms: scan === undefined ? null : Math.round(scan.result.durationMs),
      snapshot_age_seconds: ageOf(this.#lastSnapshot?.at),
      snapshot_seq: this.#lastSnapshot?.seq ?? null,
    }
    const bad = this.#restoring || scan?.result.verdict === 'damaged'
    const verified = cleanAge === null ? 'not verified yet' : `verified ${cleanAge} s ago`
    const problems = [
      this.#restoring ? 'replacing the damaged database file' : undefined,
      bad || scan?.result.verdict === 'inconclusive' ? `last scan: ${scan?.result.verdict}: ${scan?.result.reason}` : undefined,
      this.#snapshotProblem === undefined ? undefined : `last snapshot failed: ${this.#snapshotProblem}`,
    ].filter((problem) => problem !== undefined)
    // One that fails once, because an engine restarts, is no fault as long as there are others.
    const lacking = this.#snapshotFailures > (this.#lastSnapshot === undefined ? 0 : 1)
    return { healthy: !bad && !lacking, summary: [verified, ...problems].join('; '), facts }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#queue
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
