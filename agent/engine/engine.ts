/** `daemonguard engine`: the detached process that owns the DuckDB file and the journal. It knows nothing of plugins, cron or remote stores. */

import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { systemClock } from '../clock.ts'
import type { Config } from '../config.ts'
import { controlProtocol, type EngineHello } from '../control-protocol.ts'
import { ensureDirectory, removeDurably, writeOnFullDisk } from '../disk.ts'
import { ExitCode, isDiskFull, messageOf } from '../errors.ts'
import { JournalWriter } from '../journal/writer.ts'
import { acquireLock } from '../lock.ts'
import { createLog, type Log } from '../log.ts'
import { catalogName, type Paths, pathsOf } from '../paths.ts'
import type { EngineStatus } from '../plugin.ts'
import { version } from '../runtime.ts'
import { prepareDisk } from '../windows/disk.ts'
import { ownHandle } from '../windows/open-file.ts'
import { Access } from './access.ts'
import { gateTimeout } from './block.ts'
import { Blockers } from './blockers.ts'
import { Callers } from './callers.ts'
import { Catalog } from './catalog.ts'
import { Checkpoints } from './checkpoint.ts'
import { CommitPipeline } from './commit.ts'
import { ControlServer } from './control.ts'
import { endProcess } from './end.ts'
import { Foresight } from './foresight.ts'
import { memoryFacts, returnFreedMemory } from './freed-memory.ts'
import { WriterGate } from './gate.ts'
import { type Isolation, isolate } from './isolation.ts'
import { KeptSettings } from './kept-settings.ts'
import { MemoryWatch } from './memory-watch.ts'
import { ParentLocks } from './parent-locks.ts'
import { instanceFor, type PreparedInstance } from './pgcatalog/creation.ts'
import { roleStatements } from './pgcatalog/relations.ts'
import { Listener } from './pgwire/listener.ts'
import { PreparedInserts } from './prepared-inserts.ts'
import type { Presence } from './presence.ts'
import { Probe } from './probe.ts'
import { type Recovered, recover } from './recovery.ts'
import { RowConflicts } from './row-conflicts.ts'
import { RowImages } from './row-images.ts'
import { applySchemaFile } from './schema-file.ts'
import { SequenceTracker } from './sequences.ts'
import { Session } from './session.ts'
import type { SessionContext } from './session-context.ts'
import { statementSlots } from './slots.ts'
import { employThreads } from './threads.ts'
import { TransactionBuffer } from './transaction-buffer.ts'
import { WriteBuffer } from './write-buffer.ts'

/** What the engine takes before it holds a row (Node, DuckDB's library), and what is on its way through it. Bytes. */
const ownMemory = 300e6
/** DuckDB's part of the rest: some of what it takes it does not count. */
const duckdbPart = 0.95
/** Of a memory too small for that. */
const leastPart = 0.4

/** What DuckDB may take of the engine's memory, bytes. */
function duckdbMemory(memory: number): number {
  return Math.max((memory - ownMemory) * duckdbPart, memory * leastPart)
}

/** Runs until it is told to stop; resolves with the exit code. `prepared`: what a spare has made beforehand. Throws DaemonGuardError when it cannot start. */
export async function runEngine(config: Config, prepared?: PreparedInstance): Promise<number> {
  const begunAt = Date.now()
  const paths = pathsOf(config)
  const log = createLog({ name: 'engine', level: config.agent.log.level, format: 'json' })
  // DuckDB creates its own files: nobody else may read them.
  process.umask(0o077)
  prepareDisk()
  ensureDirectory(paths.data, 'ENGINE:DIRECTORY')
  const lock = acquireLock(paths.engineLock, 'engine')
  const instance = instanceFor(catalogName(paths.database), prepared)
  const { cpu_cores: cores, memory } = config.engine
  const isolation = isolate({ cores, memory, database: paths.database })
  log.info(isolation, 'isolated')
  returnFreedMemory(memory, cores)
  const recovered = await recover({
    paths,
    threads: cores,
    memory: duckdbMemory(memory),
    externalAccess: config.engine.external_access,
    now: Date.now,
    instance,
  })
  log.info(recovered.report, 'recovered')
  const access = await Access.create({ auth: config.engine.auth, databaseId: recovered.databaseId, log })
  const engine = new Engine(config, paths, log, recovered, access, isolation, begunAt)
  await engine.start()
  const code = await engine.ended
  lock.release()
  return code
}

class Engine {
  readonly ended: Promise<number>
  #end: (code: number) => void
  #config: Config
  #paths: Paths
  #log: Log
  #recovered: Recovered
  #isolation: Isolation
  #context: SessionContext
  #checkpoints: Checkpoints
  #blockers: Blockers
  #memory: MemoryWatch
  #access: Access
  #listener: Listener
  #control: ControlServer
  #nonce = randomUUID()
  #startedAt = Math.round(Date.now() - process.uptime() * 1000)
  #begunAt: number
  #stopping = false

  constructor(config: Config, paths: Paths, log: Log, recovered: Recovered, access: Access, isolation: Isolation, begunAt: number) {
    const { promise, resolve } = Promise.withResolvers<number>()
    this.ended = promise
    this.#end = resolve
    this.#config = config
    this.#paths = paths
    this.#log = log
    this.#recovered = recovered
    this.#isolation = isolation
    this.#begunAt = begunAt
    const { database, connection, databaseId } = recovered
    const suspect = (reason: string): never => this.#fail(ExitCode.suspect, `the instance is suspect: ${reason}`)
    const callers = new Callers()
    const isOne = () => callers.isOne
    const writer = new JournalWriter({
      directory: paths.journal,
      databaseId,
      epoch: recovered.epoch,
      nextSeq: recovered.nextSeq,
      onDurable: (seq) => this.#control.announce(seq),
      mayBlock: isOne,
      onFailure: (error) => suspect(error.message),
    })
    const catalog = new Catalog(database.catalog)
    const gate = new WriterGate()
    const pipeline = new CommitPipeline({ writer, isOne, directory: path.dirname(paths.database), suspect, now: Date.now })
    const locks = new ParentLocks()
    const corrupt = (reason: string): never => this.#fail(ExitCode.corrupt, `the database file is damaged: ${reason}`)
    const connect = () => database.connect()
    const { rows, max_delay: maxDelay } = config.engine.write_buffer
    const foresight = new Foresight({
      catalog,
      locks,
      pipeline,
      connect,
      failed: (reason) => log.warn(`free keys are not known: ${reason}`),
    })
    const writeBuffer = new WriteBuffer({
      connect,
      catalog,
      gate,
      locks,
      pipeline,
      foresight,
      rows,
      maxDelay,
      gateTimeout,
      suspect,
      corrupt,
    })
    const probe = new Probe({ connection: connect, pipeline })
    const [rowConflicts, images] = [new RowConflicts(), new RowImages()]
    const transactions = new TransactionBuffer({
      connect,
      pipeline,
      conflicts: rowConflicts,
      images,
      foresight,
      version: () => catalog.version,
      rows,
      maxDelay,
      suspect,
      corrupt,
    })
    const presences = new Set<Presence>()
    this.#memory = new MemoryWatch({ limit: duckdbMemory(config.engine.memory), connect })
    this.#blockers = new Blockers({
      presences,
      lastChange: () => rowConflicts.lastChange,
      timeout: config.engine.blocked_checkpoint_timeout,
      memoryShort: () => this.#memory.short(),
      clock: systemClock,
      log,
    })
    const analysts = employThreads(database, pipeline, config.engine.cpu_cores, log)
    this.#context = {
      database,
      callers,
      catalog,
      gate,
      pipeline,
      locks,
      rows: rowConflicts,
      images,
      foresight,
      transactions,
      sequences: new SequenceTracker(database.catalog),
      writeBuffer,
      inserts: new PreparedInserts(catalog),
      externalAccess: config.engine.external_access,
      slots: statementSlots(),
      analysts,
      presences,
      idleInTransactionTimeout: config.engine.idle_in_transaction_timeout,
      kept: new KeptSettings(paths.settingsFile, (message) => log.warn(message)),
      probe: () => probe.run(),
      suspect,
      corrupt,
    }
    this.#checkpoints = new Checkpoints({
      connection,
      catalog: database.catalog,
      databaseId,
      databasePath: paths.database,
      gate,
      pipeline,
      blockers: this.#blockers,
      watermark: recovered.watermark,
      iteration: recovered.iteration,
      suspect,
      now: Date.now,
    })
    this.#access = access
    this.#listener = new Listener({
      backend: { open: (client) => Session.open(this.#context, client) },
      gatekeeper: access,
      host: config.engine.listen.host,
      port: config.engine.listen.port,
      socketDir: config.engine.socket_dir,
      maxConnections: config.engine.max_connections,
      tls: config.engine.tls,
      version,
      log,
    })
    this.#control = new ControlServer({
      hello: () => this.#hello(),
      status: () => this.#status(),
      checkpoint: () => this.#checkpoint(),
      hold: async (holder) => ({
        ...(await this.#checkpoints.hold(holder)),
        ...(process.platform === 'win32' ? { openFile: ownHandle(paths.database) } : {}),
      }),
      users: async (auth) => {
        const applied = await access.change(auth)
        await this.#showUsers()
        return applied
      },
      release: (holder) => this.#checkpoints.release(holder),
      shutdown: ({ checkpoint }) => setImmediate(() => this.#stop(checkpoint)),
    })
  }

  async start(): Promise<void> {
    const { sequences } = this.#context
    await sequences.refresh(this.#recovered.connection, true)
    // Without any, the catalog is as it was made.
    if (this.#access.users.length > 0) await this.#showUsers()
    const { schema, socket_dir: socketDirectory } = this.#config.engine
    if (this.#recovered.created && schema !== null) {
      await applySchemaFile(this.#context, schema)
      this.#log.info({ file: schema }, 'schema applied')
    }
    if (socketDirectory !== null) ensureDirectory(socketDirectory, 'ENGINE:DIRECTORY')
    await this.#recovered.database.dismissWorkers()
    await this.#listener.start()
    await this.#control.listen(this.#paths.controlSocket)
    this.#writeEngineFile()
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => this.#stop(true))
    // The terminal of whoever started the agent may close: the engine goes on.
    process.on('SIGHUP', () => {})
    process.on('uncaughtException', (error) => this.#fail(ExitCode.suspect, `uncaught: ${error.stack ?? error.message}`))
    process.on('unhandledRejection', (reason) => this.#fail(ExitCode.suspect, `unhandled: ${messageOf(reason)}`))
    const directCalls = this.#context.database.calls.direct !== undefined
    this.#log.info(
      { ...this.#listener.address, databaseId: this.#recovered.databaseId, seq: this.#recovered.nextSeq - 1, directCalls },
      'serving',
    )
  }

  #writeEngineFile(): void {
    const { recovery: _, agentPassword: _secret, ...facts } = this.#hello()
    const text = `${JSON.stringify({ ...facts, controlSocket: this.#paths.controlSocket }, null, 2)}\n`
    try {
      writeOnFullDisk(this.#paths.engineFile, text, 'ENGINE:FACTS')
    } catch (error) {
      // The agent finds it by its lock as well (agent/supervisor/adopt.ts).
      if (!isDiskFull(error)) throw error
      this.#log.warn(`${this.#paths.engineFile} could not be written: ${messageOf(error)}`)
    }
  }

  /** In pg_roles. On a connection of its own: a checkpoint may be under way on the engine's. */
  async #showUsers(): Promise<void> {
    const connection = await this.#context.database.connect()
    try {
      for (const statement of roleStatements(this.#access.users)) await connection.run(statement)
    } finally {
      connection.close()
    }
  }

  /** While one is refused, memory is watched: when it gets short, the next one need not wait until it is asked for. */
  #checkpoint(): Promise<{ watermark: number }> {
    const made = this.#checkpoints.run()
    made.catch(() =>
      this.#memory.during(
        () => this.#blockers.blocked,
        () => this.#checkpoints.run(),
      ),
    )
    return made
  }

  #hello(): EngineHello {
    const { host, port, socket } = this.#listener.address ?? { host: '', port: 0, socket: null }
    return {
      protocol: controlProtocol,
      pid: process.pid,
      startedAt: this.#startedAt,
      nonce: this.#nonce,
      version,
      databaseId: this.#recovered.databaseId,
      databasePath: this.#paths.database,
      epoch: this.#recovered.epoch,
      durableSeq: this.#context.pipeline.writer.durableSeq,
      watermark: this.#checkpoints.watermark,
      listen: { host, port },
      socket,
      tls: this.#config.engine.tls !== null,
      agentPassword: this.#access.agentPassword,
      recovery: this.#recovered.report,
    }
  }

  async #status(): Promise<EngineStatus> {
    const { writer } = this.#context.pipeline
    const { watermark, lastAt } = this.#checkpoints
    return {
      pid: process.pid,
      startedAt: this.#begunAt,
      databaseId: this.#recovered.databaseId,
      databasePath: this.#paths.database,
      durableSeq: writer.durableSeq,
      watermark,
      epoch: this.#recovered.epoch,
      sessions: this.#listener.sessionCount,
      sinceCheckpoint: writer.durableSeq - watermark,
      lastCheckpointAt: lastAt,
      checkpointEvery: this.#context.kept.checkpointEvery,
      readOnlyReason: writer.shortage,
      ...memoryFacts(),
      ...this.#blockers.facts,
      isolation: this.#isolation,
    }
  }

  async #stop(checkpoint: boolean): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    try {
      await this.#listener.close()
      if (checkpoint) await this.#checkpoints.run().catch((error) => this.#log.warn(messageOf(error)))
      await this.#context.pipeline.writer.close()
      removeDurably(this.#paths.engineFile, 'ENGINE:STOP')
      this.#control.close()
      removeDurably(this.#paths.controlSocket, 'ENGINE:STOP')
      this.#log.info('stopped')
      this.#end(ExitCode.ok)
    } catch (error) {
      this.#fail(ExitCode.suspect, messageOf(error))
    }
  }

  /**
   * Ends the process at once, by _exit: no destructor of DuckDB's runs, nothing is flushed, no client is answered. What was acknowledged is
   * in the journal; the next process recovers it.
   */
  #fail(code: number, reason: string): never {
    this.#log.fatal({ code }, reason)
    endProcess(code)
  }
}
