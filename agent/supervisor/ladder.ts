/** The recovery ladder: one attempt to have an engine serve, and the step that the cause of an ending demands (design: "Recovery ladder"). */

import { controlProtocol } from '../control-protocol.ts'
import { isDiskFull, messageOf } from '../errors.ts'
import { freeSpace, whoIs } from '../shell.ts'
import { snapshotSource } from '../snapshots.ts'
import type { EngineConnection } from './adopt.ts'
import { stablePeriodMs } from './backoff.ts'
import { type Ending, gone, incidentCause } from './endings.ts'
import { untoldWals } from './moved-wals.ts'
import { holderOf, isAlive, lockHolder } from './process.ts'
import { databaseFiles, replaceDatabase, type SnapshotSource } from './restore.ts'
import type { Situation } from './situation.ts'
import { adoptedProcess } from './spawn.ts'
import { type Obstacle, startEngine, waitForObstacle } from './start.ts'
import { pidIn, type Takeover, takeOver } from './takeover.ts'
import { endInOrder, killProcess } from './termination.ts'

/** What is known of an engine that had served. */
export interface Service {
  readonly pid: number
  /** Its start was itself an answer to a death. */
  readonly restart: boolean
  /** Milliseconds since its first successful probe; null when there was none. */
  readonly servedMs: number | null
}

/** How long to wait for space on a full disk before the next attempt. */
const spacePauseMs = 5_000

/** No snapshot is ours before the directory has an identity. */
const noSnapshots: SnapshotSource = { list: () => [], verify: async () => null, restore: async () => {} }

export class Ladder {
  #situation: Situation
  #serve: (connection: EngineConnection) => void

  constructor(situation: Situation, serve: (connection: EngineConnection) => void) {
    this.#situation = situation
    this.#serve = serve
  }

  /** Climbs until an engine serves, nothing more can be tried (gave up), or the signal aborts. */
  async climb(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if ((await this.#attempt(signal)) !== 'again') return
    }
  }

  /**
   * Counts an ending and takes the step that its cause demands; waits where the count demands it. 'again': start an engine.
   * `service`: null for one that never served.
   */
  async afterEnding(ending: Ending, service: Service | null, signal: AbortSignal, doing = 'the engine'): Promise<'again' | 'ended'> {
    const situation = this.#situation
    const { clock, log, alert, config, paths } = situation.options
    const message = service === null ? `${doing} did not start: ${ending.text}` : `the engine (pid ${service.pid}) ended: ${ending.text}`
    situation.lastEnding = ending.text
    situation.become('recovering', message)
    log.warn({ pid: service?.pid ?? situation.child?.pid, ending: ending.name }, message)
    const logTail = situation.logTail(20)
    const evidence = { ending: ending.text, logTail }
    situation.outage.open({ severity: ending.name === 'stopped' ? 'info' : 'warning', cause: incidentCause(ending), message, evidence })
    if (ending.name === 'config')
      return this.#end('bad-configuration', 'the engine refuses its configuration', `daemonguard check -c ${config.file}`)
    if (ending.name === 'corrupt' && !situation.snapshotsEnded) {
      // Without an identity it is a file that was never taken over: not ours to replace.
      if (situation.databaseId() === null)
        return this.#end(
          'database-corrupt',
          `${paths.database} is damaged, and there is no snapshot of it`,
          `daemonguard scan ${paths.database}`,
        )
      situation.planRestore(logTail.at(-1) ?? ending.text, evidence)
      return signal.aborted ? 'ended' : 'again'
    }
    if (ending.name === 'full') return this.#waitForSpace(message, signal)
    const servedMs = service?.servedMs ?? 0
    const decision = situation.count.died(clock.now(), {
      served: service?.servedMs != null,
      restart: service?.restart ?? situation.restarting,
      servedMs,
    })
    situation.restarting = true
    const { deaths, failed } = situation.count.inWindow(clock.now())
    if (decision.giveUp) {
      const hint = `${situation.logHint()}; when the cause is removed: daemonguard stop, then daemonguard run`
      return this.#end(
        'restarts-failed',
        `stopped restarting the engine: ${failed} restarts failed, the last one with: ${ending.text}`,
        hint,
      )
    }
    if (servedMs >= stablePeriodMs) situation.memory.flapping = false
    if (decision.flapping && !situation.memory.flapping) {
      situation.memory.flapping = true
      alert('the engine is flapping: it serves and dies again', { deaths, lastEnding: ending.text, hint: situation.logHint() })
    }
    situation.remember()
    if (decision.pauseMs > 0) {
      log.info({ pauseMs: decision.pauseMs }, `starting the engine again in ${decision.pauseMs} ms`)
      await clock.sleep(decision.pauseMs, signal)
    }
    return signal.aborted ? 'ended' : 'again'
  }

  /** No count, and no end to it: nothing helps but space, and with that everything goes on by itself. */
  async #waitForSpace(message: string, signal: AbortSignal): Promise<'again' | 'ended'> {
    const { clock, alert } = this.#situation.options
    const hint = `free space: ${freeSpace()}; it goes on by itself`
    this.#situation.become('recovering', message, hint)
    this.#situation.settled.resolve()
    if (!this.#situation.outage.isSaid(hint)) {
      this.#situation.outage.note(message, { hint })
      alert(message, { hint })
    }
    this.#situation.restarting = true
    this.#situation.remember()
    await clock.sleep(spacePauseMs, signal)
    return signal.aborted ? 'ended' : 'again'
  }

  /** Another version's engine, which this agent cannot look after: it ends in order, after a checkpoint, and one of ours takes its place. */
  async #drain(connection: EngineConnection): Promise<'again'> {
    const { clock, log } = this.#situation.options
    const { pid, version } = connection.hello
    log.warn({ pid, version }, 'the engine speaks the control protocol of another version: it is stopped, and one of this version started')
    const closed = new Promise<void>((resolve) => connection.onClose(resolve))
    await endInOrder(adoptedProcess(pid, closed), connection, { checkpoint: true, clock, log })
    return 'again'
  }

  async #attempt(signal: AbortSignal): Promise<'again' | 'ended'> {
    const situation = this.#situation
    const { paths, log, clock } = situation.options
    const found = await situation.find()
    if (signal.aborted) {
      if (found.kind === 'engine') found.connection.close()
      return 'ended'
    }
    if (found.kind === 'engine')
      return found.connection.hello.protocol === controlProtocol ? this.#serves(found.connection) : this.#drain(found.connection)
    if (found.kind === 'blocked') return this.#waitFor(found, signal)
    if (found.file !== undefined && !situation.restarting) this.#foundDead(found.file.pid)
    if (situation.memory.restoring !== null) {
      const holder = lockHolder(paths.engineLock) ?? holderOf(paths.database)
      if (holder !== undefined) return this.#waitFor({ pid: holder, ours: false, why: 'it has the damaged database open' }, signal)
      const step = await this.#restore(signal)
      if (step !== 'done') return step
    }
    const takeover = await this.#takeOver(signal)
    if (signal.aborted) return 'ended'
    if (takeover.kind === 'blocked') return this.#waitFor({ pid: takeover.pid, ours: false, why: takeover.why }, signal)
    if (takeover.kind === 'failed')
      return this.afterEnding(takeover.ending, null, signal, `the takeover of ${paths.database} (${takeover.why})`)
    if (takeover.kind === 'refused')
      return this.#end('database-not-adoptable', `${paths.database} cannot be taken over: ${takeover.why}`, takeover.hint)
    const attempt = await startEngine(
      {
        paths,
        connect: situation.connect,
        command: () => situation.command('engine'),
        clock,
        log,
        stallMs: situation.options.stallMs ?? 120_000,
        spare: () => situation.spare?.take() ?? null,
        onSpawn(process) {
          situation.child = process
          situation.see(process.pid)
        },
      },
      signal,
    )
    if (attempt.kind === 'serving') return this.#serves(attempt.connection)
    if (attempt.kind === 'aborted') return 'ended'
    if (attempt.kind === 'stalled') {
      situation.outage.open({
        severity: 'warning',
        cause: 'engine-hung',
        message: `the starting engine (pid ${attempt.process.pid}) showed no sign of work`,
      })
      await killProcess(attempt.process, clock)
      return this.afterEnding(attempt.process.ending ?? gone, null, signal)
    }
    if (attempt.ending.name !== 'locked') return this.afterEnding(attempt.ending, null, signal)
    const said = situation.logTail(5).join('\n')
    const why = said.includes('has the database file open') ? 'it has the database file open' : 'it holds the lock of this data directory'
    return this.#waitFor({ pid: lockHolder(paths.engineLock) ?? pidIn(said), ours: false, why }, signal)
  }

  #serves(connection: EngineConnection): 'ended' {
    this.#serve(connection)
    return 'ended'
  }

  #end(cause: string, message: string, hint: string): 'ended' {
    this.#situation.giveUp(cause, message, hint)
    return 'ended'
  }

  /** engine.json is removed by a clean stop: whoever left it died while no agent watched. */
  #foundDead(pid: number): void {
    const situation = this.#situation
    situation.restarting = true
    situation.lastEnding = 'found dead when the agent started'
    situation.outage.open({
      severity: 'warning',
      cause: 'engine-died',
      message: `the engine (pid ${pid}) was found dead when the agent started`,
      foundDead: true,
    })
    situation.remember()
  }

  /** The snapshot step. 'done', or what follows when it could not be done. */
  async #restore(signal: AbortSignal): Promise<'done' | 'again' | 'ended'> {
    const situation = this.#situation
    const { paths, clock, log, alert } = situation.options
    const plan = situation.memory.restoring
    if (plan === null) return 'done'
    situation.become('recovering', plan.reason)
    const id = situation.databaseId()
    const snapshots = id === null ? noSnapshots : (situation.options.snapshots?.(id) ?? snapshotSource(paths.snapshots, id))
    try {
      const { actions, loss, snapshot, quarantined } = await replaceDatabase({
        paths,
        snapshots,
        ...plan,
        tried: situation.tried,
        adopted: situation.memory.adopted,
        time: clock.now(),
      })
      for (const action of actions) {
        log.warn(action)
        situation.outage.note(action)
      }
      if (snapshot === null) situation.snapshotsEnded = true
      situation.outage.note('the journal is replayed from there', {
        loss,
        severity: 'critical',
        evidence: { quarantine: quarantined.map(({ directory }) => directory) },
      })
      situation.memory.restoring = null
      situation.remember()
      alert(`the database file was damaged and has been replaced: ${plan.reason}`, { actions, loss })
      return 'done'
    } catch (error) {
      const text = `the snapshot step failed: ${messageOf(error)}`
      return this.afterEnding({ name: isDiskFull(error) ? 'full' : 'unstarted', code: null, signal: null, text }, null, signal)
    }
  }

  async #takeOver(signal: AbortSignal): Promise<Takeover> {
    const situation = this.#situation
    const { paths, clock, incidents, log } = situation.options
    let takeover: Takeover
    try {
      takeover = await takeOver({ paths, ...situation.command('adopt'), time: clock.now(), signal })
    } catch (error) {
      const why = messageOf(error)
      return { kind: 'failed', why, ending: { name: isDiskFull(error) ? 'full' : 'unstarted', code: null, signal: null, text: why } }
    }
    if ('unreplayed' in takeover && takeover.unreplayed !== null) this.#tellWal(takeover.unreplayed.directory, null)
    if (takeover.kind === 'ready' && takeover.adopted !== null) {
      situation.memory.adopted = true
      situation.remember()
      log.info(takeover.adopted, `took over ${paths.database}`)
      const { unreplayed, original } = takeover.adopted
      if (typeof unreplayed === 'string') this.#tellWal(String(original), unreplayed)
    }
    // An agent before this one may have died before it could say so.
    const [, ...wals] = databaseFiles(paths.database)
    const untold = takeover.kind === 'ready' ? untoldWals(paths.quarantine, wals, incidents.list(Number.POSITIVE_INFINITY)) : []
    for (const { directory, unreplayed } of untold) this.#tellWal(directory, unreplayed)
    return takeover
  }

  /** A WAL that lies in quarantine. `unreplayed`: what of it could not be replayed; null: nothing could be. */
  #tellWal(directory: string, unreplayed: string | null): void {
    const { paths, incidents, alert } = this.#situation.options
    const message =
      unreplayed === null
        ? `a WAL beside ${paths.database} cannot be replayed: what was in it is not in the database`
        : `the WAL beside the database file could be replayed only in part; ${unreplayed}`
    const what = {
      severity: 'critical',
      cause: unreplayed === null ? 'wal-not-replayable' : 'wal-damaged',
      message,
      loss: 'unknown',
    } as const
    const actions = unreplayed === null ? [`moved it to ${directory}`] : []
    incidents.close(incidents.open({ ...what, actions, evidence: { quarantine: directory } }))
    alert(message, { quarantine: directory, loss: 'unknown' })
  }

  /** Waits until the obstacle is gone or serves. */
  async #waitFor(way: Pick<Obstacle, 'pid' | 'ours' | 'why'>, signal: AbortSignal): Promise<'again' | 'ended'> {
    const situation = this.#situation
    const { clock, log, alert, paths } = situation.options
    const obstacle: Obstacle = { pid: way.pid, ours: way.ours, why: way.why, kill: null }
    const describe = () => `${obstacle.pid === null ? 'a process' : `process ${obstacle.pid}`} is in the way of the engine: ${obstacle.why}`
    const hint = `${whoIs(obstacle.pid ?? '…')}; an engine of ${paths.data} is ended by: daemonguard stop --engine`
    situation.obstacle = obstacle
    situation.become('down', describe(), hint)
    situation.settled.resolve()
    log.warn(describe())
    try {
      const connection = await waitForObstacle({
        obstacle,
        clock,
        signal,
        isAlive,
        find: () => situation.find(),
        alert() {
          if (situation.alertedPid === obstacle.pid) return
          situation.alertedPid = obstacle.pid
          alert(describe(), { pid: obstacle.pid, hint })
        },
        async kill(pid) {
          situation.outage.open({ severity: 'warning', cause: 'engine-hung', message: `the engine (pid ${pid}) hangs: ${obstacle.kill}` })
          situation.restarting = true
          await killProcess(situation.child?.pid === pid ? situation.child : adoptedProcess(pid, Promise.resolve()), clock)
        },
      })
      if (connection !== undefined && !signal.aborted) return this.#serves(connection)
      connection?.close()
      situation.become('recovering')
      return 'again'
    } finally {
      situation.obstacle = null
    }
  }
}
