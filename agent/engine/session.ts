/** One client session: runs its statements in order, keeps its transaction's state as Postgres does, and captures what it changes. */

import { type Captured, captureDelete, captureInsert, captureTruncate, captureUpdate } from './capture.ts'
import type { Catalog, TableInfo } from './catalog.ts'
import type { CommitPipeline } from './commit.ts'
import { copyIn, copyTarget } from './copy-in.ts'
import type { Database } from './duckdb.ts'
import { isCorruption, isFatal, toSqlError } from './duckdb-errors.ts'
import { Executor } from './executor.ts'
import type { WriterGate } from './gate.ts'
import { refuseForbidden } from './guard.ts'
import type { ParentLocks } from './parent-locks.ts'
import type { BackendSession, Client, Field, Parameter, PreparedQuery, RowStream, StatementSink } from './pgwire/backend.ts'
import { typeOf } from './pgwire/types.ts'
import { cellsOf, type InsertPlan, plainInsert, planInsert } from './plain-insert.ts'
import { MemoryRows, StreamedRows } from './row-stream.ts'
import { changeSchema } from './schema-change.ts'
import type { SequenceTracker } from './sequences.ts'
import { Settings } from './settings.ts'
import { SqlError } from './sql-error.ts'
import { parseStatement, type QualifiedName, type Statement } from './sql/statement.ts'
import { splitStatements } from './sql/tokens.ts'
import { Transaction } from './transaction.ts'
import type { WriteBuffer } from './write-buffer.ts'

/** What all sessions share. */
export interface SessionContext {
  readonly database: Database
  readonly catalog: Catalog
  readonly gate: WriterGate
  readonly pipeline: CommitPipeline
  readonly locks: ParentLocks
  readonly sequences: SequenceTracker
  readonly writeBuffer: WriteBuffer
  /** Milliseconds; 0: none. */
  readonly idleInTransactionTimeout: number
  /** One write and one read in the engine's own schema, down to an fsync. */
  probe(): Promise<void>
  /** The instance can no longer be trusted: the process ends. */
  suspect(reason: string): never
  /** The database file is damaged: the process ends, the agent restores. */
  corrupt(reason: string): never
}

/** How long a writer waits for a schema change or a checkpoint, and a schema change for writers. */
export const gateTimeout = 5_000

interface Prepared extends PreparedQuery {
  readonly statement: Statement | undefined
  /** Its shape, if it is a plain insert of bound parameters. */
  readonly insert?: ReturnType<typeof plainInsert>
  /** How it fills its table, as of a version of the catalog. */
  planned?: { readonly version: number; readonly info: TableInfo; readonly plan: InsertPlan | undefined }
}

/** What a statement answers: rows, or a tag. */
type Answer = RowStream | string

export class Session implements BackendSession {
  #context: SessionContext
  #client: Client
  #executor: Executor
  #settings: Settings
  #transaction: Transaction | undefined
  /** In a transaction block that has failed: only its end is accepted. */
  #failed = false
  #temporary = false
  #stream: StreamedRows | undefined
  #running = false
  #idleTimer: NodeJS.Timeout | undefined

  private constructor(context: SessionContext, client: Client, executor: Executor) {
    this.#context = context
    this.#client = client
    this.#executor = executor
    this.#settings = new Settings(context.catalog.name)
  }

  static async open(context: SessionContext, client: Client): Promise<Session> {
    const session = new Session(context, client, new Executor(await context.database.connect()))
    await session.#executor.connection.run("SET TimeZone = 'UTC'")
    await session.#settings.start(session.#executor, client.parameters)
    return session
  }

  get transactionStatus(): 'I' | 'T' | 'E' {
    if (this.#failed) return 'E'
    return this.#transaction?.explicit ? 'T' : 'I'
  }

  async simpleQuery(sql: string, sink: StatementSink): Promise<void> {
    await this.#call(async () => {
      const statements = splitStatements(sql)
      if (statements.length === 0) sink.empty()
      for (const [i, { text, tokens }] of statements.entries()) {
        const answer = await this.#perform(parseStatement(text, tokens), [], sink)
        const last = i === statements.length - 1
        // A streamed answer is read inside its transaction; every other one is told only after the commit it belongs to.
        if (answer instanceof StreamedRows) await sink.rows(answer)
        if (last || this.#transaction === undefined) await this.#commitImplicit()
        if (typeof answer === 'string') sink.complete(answer)
        else if (!(answer instanceof StreamedRows)) await sink.rows(answer)
      }
    })
  }

  async parse(sql: string, parameterTypeOids: readonly number[]): Promise<Prepared> {
    return this.#call(async () => {
      const [first, second] = splitStatements(sql)
      if (second !== undefined) throw new SqlError('42601', 'cannot insert multiple commands into a prepared statement')
      const declared = parameterTypeOids.map((oid) => typeOf(oid) ?? null)
      if (first === undefined) return { sql, statement: undefined, parameterTypes: declared, fields: null }
      const statement = parseStatement(first.text, first.tokens)
      refuseForbidden(statement.tokens.filter(() => statement.kind !== 'probe'))
      if (this.#failed && statement.kind !== 'commit' && statement.kind !== 'rollback') throw abortedTransaction()
      const shown = this.#settings.show(statement.tokens)
      if (shown !== undefined) return { sql, statement, parameterTypes: declared, fields: [{ name: shown.name, type: { kind: 'VARCHAR' } }] }
      const answers = statement.kind === 'query' || ('returning' in statement && statement.returning !== undefined)
      if (!answers && !['insert', 'update', 'delete'].includes(statement.kind)) return { sql, statement, parameterTypes: declared, fields: null }
      await this.#stream?.buffer()
      const { statement: prepared, order } = await this.#executor.prepare(statement.text)
      const count = Math.max(declared.length, ...order.map((index) => index + 1))
      const parameterTypes = Array.from({ length: count }, (_, i) => {
        const at = order.indexOf(i)
        return declared[i] ?? (at === -1 ? null : prepared.parameterType(at))
      })
      return { sql, statement, insert: plainInsert(statement), parameterTypes, fields: answers ? prepared.columns() : null }
    })
  }

  async execute(query: PreparedQuery, parameters: readonly Parameter[], sink: StatementSink, syncFollows: boolean): Promise<RowStream | undefined> {
    return this.#call(async () => {
      const { statement } = query as Prepared
      if (statement === undefined) {
        sink.empty()
        return undefined
      }
      const buffered = syncFollows ? await this.#buffer(query as Prepared, statement, parameters) : false
      const answer = buffered ? 'INSERT 0 1' : await this.#perform(statement, parameters, sink)
      if (syncFollows && !(answer instanceof StreamedRows)) await this.#commitImplicit()
      if (typeof answer !== 'string') return answer
      sink.complete(answer)
      return undefined
    })
  }

  /** A plain insert that stands alone goes through the write buffer, together with those of other clients. */
  async #buffer(query: Prepared, statement: Statement, parameters: readonly Parameter[]): Promise<boolean> {
    if (query.insert === undefined || statement.kind !== 'insert' || this.#transaction !== undefined || this.#failed || this.#temporary) return false
    const { catalog, writeBuffer } = this.#context
    if (query.planned?.version !== catalog.version) {
      refuseForbidden(statement.tokens)
      const read = catalog.version
      const info = await this.#table(statement.target)
      query.planned = { version: read, info, plan: planInsert(query.insert, info) }
    }
    const { info, plan, version } = query.planned
    const cells = plan === undefined ? undefined : cellsOf(plan, info, parameters)
    if (cells === undefined) return false
    await this.#stream?.buffer()
    return writeBuffer.submit(info, version, cells)
  }

  forget(): void {
    // Prepared statements are kept by their text and bounded in number (executor.ts).
  }

  fail(): Promise<void> | undefined {
    return this.#transaction === undefined ? undefined : this.#abort()
  }

  sync(): Promise<void> | undefined {
    if (this.#transaction === undefined || this.#transaction.explicit) return undefined
    return this.#call(() => this.#commitImplicit())
  }

  barrier(): Promise<void> | undefined {
    return this.#context.pipeline.barrier()
  }

  cancel(): void {
    if (this.#running) this.#executor.connection.interrupt()
  }

  async close(): Promise<void> {
    clearTimeout(this.#idleTimer)
    await this.#stream?.close()
    await this.#rollback()
    this.#executor.close()
    this.#executor.connection.close()
  }

  /** Every call from the wire: errors get their meaning, the transaction its state, and an idle transaction its timer. */
  async #call<T>(work: () => Promise<T>): Promise<T> {
    clearTimeout(this.#idleTimer)
    this.#running = true
    try {
      return await work()
    } catch (error) {
      this.#judge(error)
      await this.#abort()
      throw toSqlError(error)
    } finally {
      this.#running = false
      if (this.#transaction?.explicit && this.#context.idleInTransactionTimeout > 0) this.#startIdleTimer()
    }
  }

  #judge(error: unknown): void {
    if (isCorruption(error)) this.#context.corrupt((error as Error).message)
    if (isFatal(error)) this.#context.suspect((error as Error).message)
  }

  #startIdleTimer(): void {
    this.#idleTimer = setTimeout(() => {
      const timeout = this.#context.idleInTransactionTimeout
      this.#client.end(new SqlError('25P03', `terminating connection: idle in transaction for ${timeout} ms`, { severity: 'FATAL', hint: 'commit sooner; an open transaction holds up checkpoints' }))
    }, this.#context.idleInTransactionTimeout)
  }

  /** After an error: a block has failed until its end comes; anything else is rolled back and over. */
  async #abort(): Promise<void> {
    const explicit = this.#transaction?.explicit ?? false
    await this.#rollback()
    this.#failed ||= explicit
  }

  async #perform(statement: Statement, parameters: readonly Parameter[], sink: StatementSink): Promise<Answer> {
    await this.#stream?.buffer()
    if (this.#failed && statement.kind !== 'commit' && statement.kind !== 'rollback') throw abortedTransaction()
    if (statement.kind !== 'probe') refuseForbidden(statement.tokens)
    switch (statement.kind) {
      case 'begin':
        return this.#begin(statement, sink)
      case 'commit':
        return this.#end(true, sink)
      case 'rollback':
        return this.#end(false, sink)
      case 'query':
        return this.#query(statement, parameters)
      case 'session':
        return this.#settings.apply(this.#executor, statement.tokens, statement.text, (name, value) => sink.parameterStatus(name, value))
      case 'checkpoint':
        throw new SqlError('42501', 'CHECKPOINT is the guard’s to order', { hint: 'daemonguard checkpoint' })
      case 'probe':
        await this.#context.probe()
        return 'PROBE'
      case 'schema':
        return this.#schema(statement)
      default:
        return this.#write(statement, parameters, sink)
    }
  }

  async #begin(statement: Statement, sink: StatementSink): Promise<string> {
    if (this.#transaction?.explicit) sink.notice('WARNING', '25001', 'there is already a transaction in progress')
    else if (this.#transaction !== undefined) this.#transaction.explicit = true
    else {
      const readOnly = statement.tokens.some((token, i) => token.text === 'read' && statement.tokens[i + 1]?.text === 'only')
      if (statement.tokens.some((token) => token.text === 'serializable')) throw new SqlError('0A000', 'isolation is snapshot; SERIALIZABLE is not available')
      await this.#open(true, readOnly)
    }
    return 'BEGIN'
  }

  async #open(explicit: boolean, readOnly = false): Promise<Transaction> {
    this.#transaction ??= await this.#started(explicit, readOnly)
    return this.#transaction
  }

  async #started(explicit: boolean, readOnly: boolean): Promise<Transaction> {
    const transaction = new Transaction(this.#context.pipeline.writer.nextSeq - 1, explicit)
    await this.#executor.connection.run(readOnly ? 'BEGIN TRANSACTION READ ONLY' : 'BEGIN TRANSACTION')
    return transaction
  }

  async #end(commit: boolean, sink: StatementSink): Promise<string> {
    if (this.#failed) {
      this.#failed = false
      return 'ROLLBACK'
    }
    if (this.#transaction === undefined) {
      sink.notice('WARNING', '25P01', 'there is no transaction in progress')
      return commit ? 'COMMIT' : 'ROLLBACK'
    }
    if (!commit) {
      await this.#rollback()
      return 'ROLLBACK'
    }
    try {
      await this.#commit()
    } catch (error) {
      // A COMMIT that fails has ended the block.
      this.#failed = false
      throw error
    }
    return 'COMMIT'
  }

  async #commitImplicit(): Promise<void> {
    if (this.#transaction !== undefined && !this.#transaction.explicit) await this.#commit()
  }

  async #commit(): Promise<void> {
    const { pipeline, catalog, sequences } = this.#context
    const transaction = this.#transaction as Transaction
    const { connection } = this.#executor
    let seq: number | undefined
    try {
      if (transaction.pass.mode !== 'none') await sequences.collect(connection, transaction)
      if (transaction.hasChanges) seq = await pipeline.commit(connection, transaction.finish())
      else await pipeline.commitOwn(connection)
      sequences.committed(transaction)
      if (transaction.schemaChanged) {
        catalog.changed()
        await sequences.refresh(connection)
      }
    } catch (error) {
      this.#judge(error)
      // COMMIT may not have been reached.
      await connection.run('ROLLBACK').catch(() => {})
      throw error
    } finally {
      this.#release(transaction, seq)
    }
  }

  async #rollback(): Promise<void> {
    const transaction = this.#transaction
    if (transaction === undefined) return
    this.#release(transaction, undefined)
    await this.#executor.connection.run('ROLLBACK').catch(() => {})
  }

  #release(transaction: Transaction, seq: number | undefined): void {
    this.#transaction = undefined
    this.#context.locks.release(transaction, seq)
    this.#context.gate.leave(transaction.pass)
  }

  async #query(statement: Statement, parameters: readonly Parameter[]): Promise<Answer> {
    const shown = this.#settings.show(statement.tokens)
    if (shown !== undefined) {
      const fields: Field[] = [{ name: shown.name, type: { kind: 'VARCHAR' } }]
      return new MemoryRows(fields, { count: 1, columns: [[shown.value]] }, 'SHOW')
    }
    if (statement.tokens.some((token) => token.text === 'nextval')) return this.#drawFromSequence(statement, parameters)
    const { connection } = this.#executor
    const result = await this.#executor.run(statement.text, parameters, true)
    const stream = new StreamedRows(
      connection,
      result,
      'SELECT',
      () => {
        if (this.#stream === stream) this.#stream = undefined
      },
      (error) => this.#judge(error),
    )
    this.#stream = stream
    return stream
  }

  /** SELECT nextval(…) changes the database: the value handed out must not be handed out again after a crash. */
  async #drawFromSequence(statement: Statement, parameters: readonly Parameter[]): Promise<Answer> {
    const transaction = await this.#open(false)
    await this.#context.gate.enter(transaction.pass, 'shared', gateTimeout)
    const result = await this.#executor.run(statement.text, parameters)
    const rows = await result.rest()
    return new MemoryRows(result.columns, rows, `SELECT ${rows.count}`)
  }

  async #schema(statement: Extract<Statement, { kind: 'schema' }>): Promise<string> {
    if (statement.temporary || (await this.#isTemporary(statement.on ?? statement.name))) {
      this.#temporary = true
      await this.#executor.run(statement.text)
      return statement.tag
    }
    const transaction = await this.#open(false)
    await this.#context.gate.enter(transaction.pass, 'exclusive', gateTimeout)
    await changeSchema(
      {
        executor: this.#executor,
        transaction,
        catalog: this.#context.catalog,
        searchPath: this.#settings.searchPath,
        timeZone: this.#settings.timeZone,
      },
      statement,
    )
    return statement.tag
  }

  async #isTemporary(name: QualifiedName): Promise<boolean> {
    if (!this.#temporary) return false
    if (name.length > 1) return name[0] === 'temp'
    const quoted = `'${(name[0] ?? '').toLowerCase().replaceAll("'", "''")}'`
    const sql = `SELECT 1 FROM duckdb_tables() WHERE database_name = 'temp' AND lower(table_name) = ${quoted} UNION ALL SELECT 1 FROM duckdb_views() WHERE database_name = 'temp' AND lower(view_name) = ${quoted}`
    return (await this.#executor.connection.all(sql)).length > 0
  }

  async #write(statement: Exclude<Statement, { kind: 'schema' }>, parameters: readonly Parameter[], sink: StatementSink): Promise<Answer> {
    if (!('target' in statement)) throw new SqlError('0A000', 'this statement is not supported')
    const transaction = await this.#open(false)
    const info = await this.#table(statement.target)
    if (info.temporary && statement.kind !== 'copy-in') return this.#writeTemporary(statement, parameters)
    await this.#context.gate.enter(transaction.pass, 'shared', gateTimeout)
    if (statement.kind === 'copy-in') return this.#copy(statement, info, transaction, sink)
    const context = { executor: this.#executor, transaction, locks: this.#context.locks }
    switch (statement.kind) {
      case 'insert':
        return answer(await captureInsert(context, statement, info, parameters), 'INSERT 0')
      case 'update':
        return answer(await captureUpdate(context, statement, info, parameters), 'UPDATE')
      case 'delete':
        return answer(await captureDelete(context, statement, info, parameters), 'DELETE')
      case 'truncate':
        await captureTruncate(context, statement.targetText, info)
        return 'TRUNCATE TABLE'
    }
  }

  async #copy(statement: Extract<Statement, { kind: 'copy-in' }>, info: TableInfo, transaction: Transaction, sink: StatementSink): Promise<string> {
    if (info.temporary) throw new SqlError('0A000', 'COPY into a temporary table is not supported', { hint: 'use INSERT' })
    const target = copyTarget(info, statement.columns, statement.options)
    this.#context.locks.referring(info.parents, transaction)
    const count = await copyIn(this.#executor, transaction, target, sink.copyIn('text', target.columns.length))
    return `COPY ${count}`
  }

  /** Temporary tables work, and are not journaled. */
  async #writeTemporary(statement: Statement, parameters: readonly Parameter[]): Promise<Answer> {
    const result = await this.#executor.run(statement.text, parameters)
    const verb = statement.kind === 'insert' ? 'INSERT 0' : statement.kind.toUpperCase()
    if (!result.hasRows) return `${verb} ${result.rowsChanged}`
    const rows = await result.rest()
    return new MemoryRows(result.columns, rows, `${verb} ${rows.count}`)
  }

  #table(name: QualifiedName): Promise<TableInfo> {
    const cacheable = !this.#temporary && this.#transaction?.schemaChanged !== true
    return this.#context.catalog.table(this.#executor.connection, name, this.#settings.searchPath, cacheable)
  }
}

function answer(captured: Captured, verb: string): Answer {
  const tag = `${verb} ${captured.count}`
  return captured.returned === undefined ? tag : new MemoryRows(captured.returned.fields, captured.returned.rows, tag)
}

function abortedTransaction(): SqlError {
  return new SqlError('25P02', 'current transaction is aborted, commands ignored until end of transaction block', { hint: 'ROLLBACK' })
}

