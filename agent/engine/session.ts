/** One client session: runs its statements in order, keeps its transaction's state as Postgres does, and captures what it changes. */

import { type Answer, Foreseen, isRows, tell } from './answer.ts'
import { Block, readOnlyError } from './block.ts'
import type { TableInfo } from './catalog.ts'
import { copyOptions } from './copy-options.ts'
import { discard } from './discard.ts'
import { type Connection, StatementType } from './duckdb.ts'
import { judge, toSqlError } from './duckdb-errors.ts'
import { Executor } from './executor.ts'
import { ForeseenStatements } from './foreseen-statements.ts'
import { refuseForbidden } from './guard.ts'
import { Interruption } from './interruption.ts'
import { translate } from './pgcatalog/dialect.ts'
import type { BackendSession, Client, Field, Parameter, PreparedQuery, RowStream, StatementSink } from './pgwire/backend.ts'
import { runPragma } from './pragmas.ts'
import { isAsDescribed, type Prepared, prepare, resultTypeChanged } from './preparation.ts'
import { Presence } from './presence.ts'
import { inOrderOfReferences } from './references.ts'
import { changeRows } from './row-change.ts'
import { MemoryRows, StreamedRows } from './row-stream.ts'
import { changeSchema } from './schema-change.ts'
import { serverVersion } from './server-version.ts'
import type { SessionContext } from './session-context.ts'
import { isLocal, Settings } from './settings.ts'
import { isReadOnly } from './sql/begin.ts'
import { parseStatement, type QualifiedName, type Statement } from './sql/statement.ts'
import { lowerCase, splitStatements, type Token, tokenize } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { Temporaries } from './temporaries.ts'

export class Session implements BackendSession {
  #context: SessionContext
  #client: Client
  #executor: Executor
  #settings: Settings
  #block: Block
  #temporaries: Temporaries
  #stream: StreamedRows | undefined
  #interruption: Interruption
  #presence: Presence
  #foreseen: ForeseenStatements
  /** A string of several statements runs, which is a transaction as well. */
  #several = false

  private constructor(context: SessionContext, client: Client, connection: Connection) {
    this.#context = context
    this.#client = client
    this.#interruption = new Interruption(() => {
      if (!this.#block.isCommitting) connection.interrupt()
    })
    this.#executor = new Executor(connection, context.slots, context.analysts, this.#interruption)
    this.#settings = new Settings(context.catalog.name, context.kept, client, context.idleInTransactionTimeout)
    this.#block = new Block(context, connection, {
      readOnly: client.readonly,
      judge: (error) => this.#judge(error),
      lockTimeout: () => this.#settings.timeout('lock_timeout'),
      signal: () => this.#interruption.signal,
      run: (held, transaction) => this.#foreseen.run(held, transaction),
    })
    this.#temporaries = new Temporaries({ executor: this.#executor, block: this.#block, catalog: context.catalog })
    this.#foreseen = new ForeseenStatements({
      context,
      executor: this.#executor,
      block: this.#block,
      settings: this.#settings,
      table: (name) => this.#table(name),
      // A table of the name may be a temporary one; and whoever may only read is refused in one place.
      writesPlainly: () => !this.#temporaries.any && !client.readonly,
      prepare: (statement) => this.#prepare(statement, []),
      signal: () => this.#interruption.signal,
    })
    this.#presence = new Presence({
      client,
      block: this.#block,
      interruption: this.#interruption,
      timeout: (name) => this.#settings.timeout(name),
      lastSeq: () => context.pipeline.writer.nextSeq - 1,
    })
  }

  static async open(context: SessionContext, client: Client): Promise<Session> {
    const session = new Session(context, client, await context.database.connect())
    await session.#executor.connection.run("SET TimeZone = 'UTC'")
    await session.#settings.start(session.#executor, client.parameters, client.report)
    context.presences.add(session.#presence)
    return session
  }

  get transactionStatus(): 'I' | 'T' | 'E' {
    return this.#block.status
  }

  async simpleQuery(sql: string, sink: StatementSink): Promise<void> {
    await this.#call(async () => {
      const statements = splitStatements(sql)
      this.#several = statements.length > 1
      if (statements.length === 0) {
        await this.#commitImplicit()
        sink.empty()
      }
      for (const [i, { text, tokens }] of statements.entries()) {
        const statement = this.#read(text, tokens)
        const answer = await this.#perform(statement, [], sink, () => this.#foreseen.written(statement, !this.#several))
        const last = i === statements.length - 1
        // A streamed answer is read inside its transaction; every other one is told only after the commit it belongs to.
        if (answer instanceof StreamedRows) await sink.rows(answer)
        if (last || !this.#block.isOpen) await this.#block.commitImplicit()
        if (last) await this.#settle(true)
        if (!isRows(answer)) tell(answer, sink, this.#block.isOpen)
        else if (!(answer instanceof StreamedRows)) await sink.rows(answer)
      }
    })
  }

  async parse(sql: string, parameterTypeOids: readonly number[]): Promise<Prepared> {
    return this.#call(async () => {
      const [first, second] = splitStatements(sql)
      if (second !== undefined) throw new SqlError('42601', 'cannot insert multiple commands into a prepared statement')
      const statement = first === undefined ? undefined : this.#read(first.text, first.tokens)
      if (statement !== undefined) this.#refuse(statement)
      return this.#prepare(statement, parameterTypeOids)
    })
  }

  #prepare(statement: Statement | undefined, oids: readonly number[]): Promise<Prepared> {
    const { catalog, inserts } = this.#context
    const shared = !this.#temporaries.any && this.#block.schemaVersion === catalog.version ? inserts : undefined
    const look = async () => {
      await this.#stream?.buffer()
      this.#block.touch(statement?.tokens)
      this.#executor.forSchema(this.#block.schemaVersion)
    }
    return prepare(this.#executor, this.#settings, statement, oids, look, shared)
  }

  execute(
    query: PreparedQuery,
    parameters: readonly Parameter[],
    sink: StatementSink,
    syncFollows: boolean,
  ): Promise<RowStream | undefined> {
    this.#context.callers.heard(this)
    const prepared = query as Prepared
    const written = syncFollows && this.#stream === undefined ? this.#foreseen.short(prepared, parameters) : undefined
    if (written === undefined) return this.#execute(prepared, parameters, sink, syncFollows)
    return written.then((done) => {
      if (!done) return this.#execute(prepared, parameters, sink, syncFollows)
      sink.complete('INSERT 0 1')
      return undefined
    })
  }

  #execute(query: Prepared, parameters: readonly Parameter[], sink: StatementSink, syncFollows: boolean): Promise<RowStream | undefined> {
    return this.#call(async () => {
      const { statement } = query
      if (statement === undefined) {
        sink.empty()
        return undefined
      }
      const answer = await this.#perform(statement, parameters, sink, () => this.#foreseen.bound(query, parameters, syncFollows))
      // Before the commit: what is told as failed must not be there.
      if (isRows(answer) && !isAsDescribed(query, answer.fields)) {
        await answer.close()
        throw resultTypeChanged()
      }
      if (syncFollows && !(answer instanceof StreamedRows)) await this.#block.commitImplicit()
      if (isRows(answer)) return answer
      tell(answer, sink, this.#block.isOpen)
      return undefined
    })
  }

  forget(): void {} // executor.ts keeps what is prepared, by its text.

  fail(): Promise<void> | undefined {
    return this.#block.isOpen || this.#settings.isPending ? this.#abort() : undefined
  }

  sync(): Promise<void> | undefined {
    if (this.#block.status !== 'I' || !(this.#block.isOpen || this.#settings.isPending)) return undefined
    return this.#call(() => this.#commitImplicit())
  }

  async #commitImplicit(): Promise<void> {
    await this.#block.commitImplicit()
    await this.#settle(true)
  }

  /** Whatever transaction there was has ended: so has what was set for it. */
  async #settle(committed: boolean): Promise<void> {
    if (this.#block.isOpen) return
    this.#temporaries.transactionEnded()
    await this.#settings.transactionEnded(this.#executor, committed)
  }

  async #abort(): Promise<void> {
    await this.#block.abort()
    await this.#settle(false)
  }

  barrier(seq?: number): Promise<void> | undefined {
    return this.#context.pipeline.barrier(seq)
  }

  cancel(): void {
    this.#interruption.stop(new SqlError('57014', 'canceling statement due to user request'))
  }

  async close(): Promise<void> {
    this.#presence.close()
    try {
      await this.#stream?.close()
    } finally {
      // Others wait for what it holds.
      await this.#block.rollback()
    }
    this.#context.presences.delete(this.#presence)
    this.#executor.forget()
    this.#executor.connection.close()
  }

  /** Every call from the wire: errors get their meaning, the transaction its state, and an idle transaction its timer. */
  #call<T>(work: () => Promise<T>): Promise<T> {
    this.#several = false
    this.#context.callers.heard(this)
    return this.#presence.working(async () => {
      try {
        return await this.#presence.interruptible(work)
      } catch (error) {
        this.#judge(error)
        await this.#abort()
        throw toSqlError(error)
      }
    })
  }

  #judge(error: unknown): void {
    judge(error, this.#context)
  }

  /** What the client's text says, in DuckDB's words. */
  #read(text: string, tokens: readonly Token[]): Statement {
    const statement = parseStatement(text, tokens)
    if (!['query', 'insert', 'update', 'delete', 'merge'].includes(statement.kind)) return statement
    const { user, id } = this.#client
    const facts = { user, id, version: serverVersion, setting: (name: string) => this.#settings.valueOf(name) }
    const translated = translate(statement.text, statement.tokens, facts)
    return translated === undefined ? statement : parseStatement(translated, tokenize(translated))
  }

  /** Throws for what is not accepted now (25P02), or never (42501). */
  #refuse(statement: Statement): void {
    this.#block.refuseFailed(statement.kind)
    if (statement.kind !== 'probe') refuseForbidden(statement.tokens, this.#context.externalAccess)
    else if (this.#client.readonly) throw readOnlyError()
  }

  /** `foresee`: what comes of it where it need not be run. */
  async #perform(
    statement: Statement,
    parameters: readonly Parameter[],
    sink: StatementSink,
    foresee?: () => Promise<string | Foreseen | undefined>,
  ): Promise<Answer | Foreseen> {
    await this.#stream?.buffer()
    this.#refuse(statement)
    return (await foresee?.()) ?? this.#dispatch(statement, parameters, sink)
  }

  /** The same for what is known to be accepted, with no rows on their way. */
  async #dispatch(statement: Statement, parameters: readonly Parameter[], sink: StatementSink): Promise<Answer | Foreseen> {
    if (!['begin', 'commit', 'rollback'].includes(statement.kind)) await this.#block.start()
    const notice: StatementSink['notice'] = (...about) => sink.notice(...about)
    switch (statement.kind) {
      case 'begin': {
        const isFirst = !this.#block.isOpen
        await this.#block.begin(isReadOnly(statement.tokens), notice)
        return isFirst ? new Foreseen('BEGIN', 0) : 'BEGIN'
      }
      case 'commit':
      case 'rollback': {
        const tag = await this.#block.end(statement.kind === 'commit', notice)
        await this.#settle(tag === 'COMMIT')
        return tag
      }
      case 'query':
        return this.#query(statement, parameters)
      case 'session':
        if (isLocal(statement.tokens.slice(1)) && this.#block.status === 'I' && !this.#several)
          notice('WARNING', '25P01', 'SET LOCAL can only be used in transaction blocks')
        return this.#settings.apply(this.#executor, statement.tokens)
      case 'discard':
        return discard(statement.tokens, {
          isInBlock: this.#block.isOpen || this.#several,
          resetSettings: () => this.#settings.resetAll(this.#executor),
          dropTemporaries: () => this.#temporaries.drop(),
          deallocate: (name) => this.#client.deallocate(name),
        })
      case 'pragma':
        if (this.#client.readonly) throw readOnlyError()
        runPragma(statement.text, statement.tokens, this.#context.kept, notice)
        return 'PRAGMA'
      case 'checkpoint':
        throw new SqlError('42501', 'CHECKPOINT is the guard’s to order', { hint: 'daemonguard checkpoint' })
      case 'vacuum':
        notice('NOTICE', '00000', 'checkpoints reclaim space, and statistics are kept by themselves')
        return statement.tokens[0]?.text === 'vacuum' ? 'VACUUM' : 'ANALYZE'
      case 'list': {
        let answer: Answer | Foreseen = ''
        for (const part of await inOrderOfReferences(this.#executor.connection, statement.parts))
          answer = await this.#perform(part, parameters, sink)
        return answer
      }
      case 'copy-out': {
        const query = this.#read(statement.query, tokenize(statement.query))
        this.#refuse(query)
        const rows = await this.#query(query, parameters)
        return `COPY ${await sink.copyOut(rows, copyOptions(statement.options))}`
      }
      case 'probe':
        await this.#context.probe()
        return 'PROBE'
      case 'schema':
        return this.#schema(statement)
      default:
        return this.#write(statement, parameters, sink)
    }
  }

  async #query(statement: Statement, parameters: readonly Parameter[]): Promise<RowStream> {
    const shown = this.#settings.show(statement.tokens)
    if (shown !== undefined) {
      const fields: Field[] = [{ name: shown.name, type: { kind: 'VARCHAR' } }]
      return new MemoryRows(fields, { count: 1, columns: [[shown.value]] }, 'SHOW')
    }
    if (statement.tokens.some((token) => lowerCase(token.text) === 'nextval')) return this.#drawFromSequence(statement, parameters)
    await this.#block.forReading(statement.tokens)
    const begun = () => this.#presence.querying()
    const result = await this.#executor
      .run(statement.text, parameters, { stream: true, query: true, expect: queries, begun })
      .catch((error) => {
        this.#presence.queried()
        throw error
      })
    const stream = new StreamedRows(this.#executor.connection, result, 'SELECT', {
      fetch: (work) => {
        this.#context.callers.heard(this)
        return this.#presence.working(() => this.#presence.interruptible(work))
      },
      ended: () => {
        this.#presence.queried()
        if (this.#stream === stream) this.#stream = undefined
      },
      failed: (error) => this.#judge(error),
    })
    this.#stream = stream
    return stream
  }

  /** SELECT nextval(…) changes the database: the value handed out must not be handed out again after a crash. */
  async #drawFromSequence(statement: Statement, parameters: readonly Parameter[]): Promise<RowStream> {
    await this.#block.forWriting('shared')
    const result = await this.#executor.run(statement.text, parameters, { expect: queries })
    const rows = await result.rest()
    return new MemoryRows(result.columns, rows, `SELECT ${rows.count}`)
  }

  async #schema(statement: Extract<Statement, { kind: 'schema' }>): Promise<string> {
    if (await this.#temporaries.change(statement)) return statement.tag
    const { catalog } = this.#context
    const transaction = await this.#block.forWriting('exclusive')
    const { searchPath, timeZone } = this.#settings
    const lastSeq = this.#context.pipeline.writer.nextSeq - 1
    const snapshots = { ...this.#context, own: this.#presence }
    const temporary = this.#temporaries.any
    await changeSchema({ executor: this.#executor, transaction, catalog, searchPath, timeZone, lastSeq, temporary, snapshots }, statement)
    return statement.tag
  }

  async #write(statement: Exclude<Statement, { kind: 'schema' }>, parameters: readonly Parameter[], sink: StatementSink): Promise<Answer> {
    if (!('target' in statement)) throw new SqlError('0A000', 'this statement is not supported')
    if (await this.#temporaries.has(statement.target)) return this.#temporaries.write(statement, parameters)
    const transaction = await this.#block.forWriting('shared')
    const info = await this.#table(statement.target)
    const { locks, catalog, images } = this.#context
    const context = { executor: this.#executor, transaction, locks, images, catalog: catalog.name }
    return changeRows(context, statement, info, parameters, sink)
  }

  #table(name: QualifiedName): Promise<TableInfo> {
    // Not one that something temporary hides: whoever has such asks for it first.
    const cacheable = !this.#block.schemaChanged
    return this.#context.catalog.table(this.#executor.connection, name, this.#settings.searchPath, cacheable)
  }
}

/** What DuckDB itself must take a statement for. */
const queries = [StatementType.SELECT, StatementType.EXPLAIN, StatementType.RELATION]
