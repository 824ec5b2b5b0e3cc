/**
 * `daemonguard demo`: the whole story in a temporary directory, with nothing else installed. Clients write trades while the
 * engine is killed twice, the agent once, and a byte of the database file is flipped; then every row is counted.
 * It drives agent and engine from outside, as a user would, so what it proves holds for a user.
 */

import { systemClock, waitUntil } from './clock.ts'
import { brokers, Clients, connect, insertTrade, schema } from './demo/clients.ts'
import { type Damage, flipByte } from './demo/damage.ts'
import { describeLedger, type FaultReport, type Ledger, newLedger, readRows, settle } from './demo/ledger.ts'
import { Stage } from './demo/stage.ts'
import { codeOf, DaemonGuardError, ExitCode, messageOf } from './errors.ts'
import { version } from './runtime.ts'

/** Four clients write single trades, two write three in a transaction. */
const orders = [1, 1, 1, 1, 3, 3]
const overallDeadlineMs = 150_000
const recoveryDeadlineMs = 30_000
/** The parts that must all have happened. */
const expectedFaults = 4

/** Plays the demo. `json`: the ledger alone on stdout, progress on stderr. Resolves with the exit code: 0, or 1 when anything is missing. */
export async function runDemo(options: { json: boolean; keep: boolean }): Promise<ExitCode> {
  const ledger = newLedger(version)
  const started = systemClock.monotonic()
  const say = (text: string) => {
    const line = `${((systemClock.monotonic() - started) / 1000).toFixed(1).padStart(5)} s  ${text}\n`
    ;(options.json ? process.stderr : process.stdout).write(line)
  }
  const stage = await Stage.prepare()
  const play = new Play(stage, ledger, say, AbortSignal.timeout(overallDeadlineMs))
  const interrupted = () => {
    stage.killEverything()
    process.exit(ExitCode.failed)
  }
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
  try {
    await play.run()
  } catch (error) {
    ledger.problems.push(error instanceof DaemonGuardError ? error.describe() : messageOf(error), stage.lastLines(8))
  } finally {
    const keep = options.keep
    await stage.end({ keep }).catch((error) => ledger.problems.push(`it did not clean up after itself: ${messageOf(error)}`))
    ledger.directory = keep ? stage.directory : null
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
  }
  if (ledger.faults.length < expectedFaults)
    ledger.problems.push(`only ${ledger.faults.length} of ${expectedFaults} faults were played to their end`)
  ledger.ok = ledger.problems.length === 0
  ledger.durationMs = Math.round(systemClock.monotonic() - started)
  process.stdout.write(options.json ? `${JSON.stringify(ledger, null, 2)}\n` : describeLedger(ledger))
  return ledger.ok ? ExitCode.ok : ExitCode.failed
}

class Play {
  #stage: Stage
  #ledger: Ledger
  #say: (text: string) => void
  #signal: AbortSignal
  #clients: Clients

  constructor(stage: Stage, ledger: Ledger, say: (text: string) => void, signal: AbortSignal) {
    this.#stage = stage
    this.#ledger = ledger
    this.#say = say
    this.#signal = signal
    this.#clients = new Clients(stage.postgres)
  }

  async run(): Promise<void> {
    this.#say(`starting an agent, which starts the engine, in ${this.#stage.directory}`)
    await this.#stage.startAgent(this.#signal)
    await this.#createTables()
    this.#clients.start(orders)
    this.#say(`${orders.length} clients write trades`)
    try {
      await this.#acknowledged(500)
      await this.#killEngine('engine killed')
      await this.#acknowledged(500)
      await this.#killAgent()
      await this.#acknowledged(300)
      await this.#killEngine('engine killed again')
      await this.#takeSnapshot()
      await this.#acknowledged(300)
      await this.#damageDatabase()
      await this.#acknowledged(300)
    } catch (error) {
      await this.#clients.stop(0).catch(() => {}) // what went wrong first is what matters
      throw error
    }
    await this.#clients.stop(recoveryDeadlineMs)
    this.#say('the clients have stopped: counting')
    const client = await connect(this.#stage.postgres)
    settle(this.#ledger, this.#clients, await readRows(client).finally(() => client.end()))
    const scan = await this.#stage.command(['scan'], this.#signal)
    if (scan.code !== 0) this.#ledger.problems.push(`the last scan of the database file ended with ${scan.code}: ${scan.output.trim()}`)
  }

  async #createTables(): Promise<void> {
    const client = await connect(this.#stage.postgres)
    try {
      for (const statement of schema) await client.query(statement)
      for (const [index, name] of brokers.entries()) await client.query('INSERT INTO brokers VALUES ($1, $2)', [index + 1, name])
      const refusal = await client.query(insertTrade, [0, brokers.length + 1, '1.00', '1.0000']).then(
        () => 'accepted',
        (error) => codeOf(error),
      )
      if (refusal !== '23503') throw new DaemonGuardError(`a trade of an unknown broker was not refused by its foreign key: ${refusal}`)
    } finally {
      await client.end()
    }
    this.#say('created brokers and trades; a trade of an unknown broker was refused by the foreign key')
  }

  async #killEngine(fault: string): Promise<void> {
    const at = systemClock.monotonic()
    const old = this.#stage.killEngine()
    this.#say(`SIGKILL to the engine (pid ${old}) under ${orders.length} writing clients`)
    await this.#until('the clients can write again', recoveryDeadlineMs, () => this.#clients.recoveredAfter(at) !== undefined)
    const now = this.#stage.enginePid()
    if (now === old) throw new DaemonGuardError(`the engine was killed, and engine.json still names pid ${old}`)
    this.#report({
      fault,
      recoveredMs: this.#clients.recoveredAfter(at) ?? 0,
      pauseMs: this.#clients.longestPause(at),
      note: `engine ${old} → ${now}`,
    })
  }

  async #killAgent(): Promise<void> {
    const engine = this.#stage.enginePid()
    const lost = this.#clients.connectionsLost
    const at = systemClock.monotonic()
    await this.#stage.killAgent()
    this.#say('SIGKILL to the agent; the clients write on')
    await this.#acknowledged(200)
    await this.#stage.startAgent(this.#signal)
    const now = this.#stage.enginePid()
    if (now !== engine || this.#clients.connectionsLost !== lost) {
      throw new DaemonGuardError(
        `the agent's death was felt: engine ${engine} → ${now}, ${this.#clients.connectionsLost - lost} connections lost`,
      )
    }
    this.#report({
      fault: 'agent killed',
      recoveredMs: this.#clients.servedAfter(at) ?? 0,
      pauseMs: this.#clients.longestPause(at),
      note: `the next agent adopted engine ${engine}; no connection lost`,
    })
  }

  async #takeSnapshot(): Promise<void> {
    const { code, output } = await this.#stage.command(['snapshot'], this.#signal)
    if (code !== 0) throw new DaemonGuardError(`a snapshot could not be taken: ${output.trim()}`)
    this.#say('took a verified snapshot')
  }

  /** A block that was just being replaced by a checkpoint hurts nobody: then the next one is tried. */
  async #damageDatabase(): Promise<void> {
    for (let attempt = 0; attempt < 4; attempt += 1) {
      const engine = this.#stage.enginePid()
      const known = new Set((await this.#stage.status())?.incidents.map(({ id }) => id))
      const { block, offset } = await this.#flipByte(attempt)
      const at = systemClock.monotonic()
      this.#say(`flipped one bit at byte ${offset} of the database file (block ${block}); waiting for the scanner`)
      let found: { message: string } | undefined
      const seen = async () => {
        found = (await this.#stage.status())?.incidents.find(({ cause, id }) => cause === 'database-corrupt' && !known.has(id))
        return found !== undefined
      }
      if (!(await waitUntil(seen, { deadline: 6000, every: 50, signal: this.#signal }))) continue
      const foundMs = systemClock.monotonic() - at
      this.#say(`found after ${(foundMs / 1000).toFixed(1)} s: ${found?.message}`)
      await this.#until(
        'the database is restored and serves',
        recoveryDeadlineMs,
        () => this.#stage.enginePid() !== engine && this.#clients.recoveredAfter(at) !== undefined,
      )
      const recoveredMs = this.#clients.recoveredAfter(at) ?? 0
      this.#report({
        fault: 'byte flipped',
        recoveredMs,
        pauseMs: this.#clients.longestPause(at),
        note: `found after ${(foundMs / 1000).toFixed(2)} s; file quarantined, snapshot restored, journal replayed`,
      })
      return
    }
    throw new DaemonGuardError('the scanner did not find the flipped byte')
  }

  /** Waits until the file holds trades, and damages them. */
  async #flipByte(choice: number): Promise<Damage> {
    let damage: Damage | null = null
    await this.#until('the database file holds trades', 10_000, async () => {
      damage = await flipByte(this.#stage.database, choice)
      return damage !== null
    })
    return damage as unknown as Damage
  }

  #report(fault: FaultReport): void {
    this.#ledger.faults.push({ ...fault, recoveredMs: Math.round(fault.recoveredMs), pauseMs: Math.round(fault.pauseMs) })
    this.#say(`${fault.fault}: recovered after ${(fault.recoveredMs / 1000).toFixed(2)} s`)
  }

  /** Waits for so many more acknowledged rows. */
  async #acknowledged(rows: number): Promise<void> {
    const target = this.#clients.acknowledged.size + rows
    await this.#until(`${rows} more rows are acknowledged`, recoveryDeadlineMs, () => this.#clients.acknowledged.size >= target)
  }

  async #until(what: string, deadline: number, condition: () => boolean | Promise<boolean>): Promise<void> {
    const reached = await waitUntil(
      () => {
        this.#clients.check()
        return condition()
      },
      { deadline, signal: this.#signal },
    )
    if (!reached) throw new DaemonGuardError(`waited in vain until ${what}`)
  }
}
