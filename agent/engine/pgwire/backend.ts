/**
 * What the wire asks of the engine, and no more. The wire knows bytes, the engine knows SQL; they meet here.
 *
 * Order: a session's methods are called one at a time, each after the previous one has settled, except `cancel` and
 * `barrier`, which may come at any time. A method that fails throws SqlError (anything else becomes XX000 and is logged).
 *
 * Durability (R1, R4): the wire only buffers what the engine answers. Before any byte of it leaves for the client, it waits
 * for `barrier()`: errors and Describe answers included, since they too can reveal a row. So the engine need not wait for
 * an fsync before it resolves a call, pipelined commits of one client share an fsync, and no code path can forget the barrier. Only where
 * every byte is an acknowledgement without content, or was told by `foreseen`, is it asked for that much, and not for all.
 */

import type { Cell, ColumnType } from '../../journal/types.ts'
import type { SqlError } from '../sql-error.ts'
import type { CopyOptions } from './copy.ts'
import type { ChunkColumn } from './numbers.ts'

export interface Backend {
  /** A new session. Throws SqlError (severity FATAL) to refuse the client. */
  open(client: Client): Promise<BackendSession>
}

/** Who has logged in, and what its StartupMessage says. */
export interface Client {
  /** Also the `pid` in BackendKeyData: positive, unique among open connections. */
  readonly id: number
  readonly user: string
  /** It may look, and change nothing. */
  readonly readonly: boolean
  readonly database: string
  readonly applicationName: string
  /** Everything else of the StartupMessage: `options`, `TimeZone`, … as sent. */
  readonly parameters: ReadonlyMap<string, string>
  /** `host:port`, or `local` for the Unix socket. */
  readonly remote: string
  /** Ends the connection (25P03, 57P01, …): cancels what runs, then sends the error as FATAL. Returns at once; safe twice. */
  end(error: SqlError): void
  /** DEALLOCATE: gives up the prepared statement of this name, or (undefined) all that have one; false: there is none of that name. */
  deallocate(name: string | undefined): boolean
  /** A setting changed that clients are told of (TimeZone, application_name): with the answers that are on their way. */
  report(name: string, value: string): void
}

export interface Field {
  readonly name: string
  readonly type: ColumnType
}

export interface PreparedQuery {
  readonly sql: string
  /** One per parameter $1, $2, …; null: not known (described to the client as text). */
  readonly parameterTypes: readonly (ColumnType | null)[]
  /** null: returns no rows. */
  readonly fields: readonly Field[] | null
}

/** A bound value: NULL, text that the engine casts, or a typed value (it came in binary). */
export type Parameter = null | string | { readonly type: ColumnType; readonly cell: Cell }

/** Rows by column. */
export interface Chunk {
  readonly count: number
  readonly columns: readonly ChunkColumn[]
}

/**
 * The rows of one statement. A stream may stay open while other statements of the session run (a portal with a row limit);
 * the engine may end it when its transaction ends, `next` then throws 34000.
 */
export interface RowStream {
  readonly fields: readonly Field[]
  /**
   * The next rows, in chunks of any size; null at the end. Large results: the wire asks only when the client has taken the previous ones.
   * `all`: it will ask until the end, and nothing else of this session runs before that: the engine may be at work on the rows that follow.
   */
  next(all?: boolean): Promise<Chunk | null>
  /** The final command tag ('SELECT 5', 'INSERT 0 1'); valid once `next` has returned null. */
  readonly tag: string
  /** Frees what is left. Called once, also after the end. */
  close(): Promise<void>
}

/** Data of COPY … FROM STDIN, pulled by the engine: that is its back-pressure. */
export interface CopySource {
  /** What has arrived, in order, at message boundaries or not, until the next call; null after CopyDone. Throws SqlError when the client gives up (57014) or is lost (08006). */
  read(): Promise<Buffer | null>
}

/** Where a statement's answers go. Nothing is sent before `barrier()` allows it. */
export interface StatementSink {
  /** Sends a whole result: description, rows as the client takes them, the tag; closes the stream. Simple query only. */
  rows(stream: RowStream): Promise<void>
  /** A statement without rows has ended: 'INSERT 0 1', 'BEGIN', … */
  complete(tag: string): void
  /** The same before DuckDB has been told of the statement: the tag tells of no commit after `seq`, 0: of none at all. */
  foreseen(tag: string, seq: number): void
  /** The statement was empty. */
  empty(): void
  /** severity: 'NOTICE', 'WARNING', 'INFO', … */
  notice(severity: string, code: string, message: string): void
  /** Asks the client for COPY data. Read it to the end (or throw), then `complete('COPY n')`. */
  copyIn(format: 'text' | 'binary', columnCount: number): CopySource
  /** Sends a whole result as COPY data, as the client takes it, and closes the stream; resolves with the number of rows. Then `complete('COPY n')`. */
  copyOut(stream: RowStream, options: CopyOptions): Promise<number>
}

export interface BackendSession {
  /** 'I' idle, 'T' in a transaction block, 'E' in a failed one. Read for ReadyForQuery. */
  readonly transactionStatus: 'I' | 'T' | 'E'
  /**
   * Splits and runs a simple query string: for each statement one `rows`, `complete` or `empty`, in order; an empty string
   * is one `empty`. The first error ends the string (throws). Commits the implicit transaction, also of a preceding unsynced `execute`.
   */
  simpleQuery(sql: string, sink: StatementSink): Promise<void>
  /** Prepares one statement without running it. OID 0: not declared. */
  parse(sql: string, parameterTypeOids: readonly number[]): Promise<PreparedQuery>
  /**
   * Runs it. Resolves with its rows, or with undefined after `sink.complete` or `sink.empty`. `syncFollows`: nothing else comes before
   * Sync, so the implicit transaction may commit here, and a commit that fails is told instead of the statement's completion.
   */
  execute(query: PreparedQuery, parameters: readonly Parameter[], sink: StatementSink, syncFollows: boolean): Promise<RowStream | undefined>
  /** The client will not execute it again. Not called for what is left at the end of the session. */
  forget(query: PreparedQuery): void
  /** After every error of an extended-protocol message, whoever raised it (the wire: an unknown portal, a bad parameter): the transaction has failed. */
  fail(): Promise<void> | undefined
  /** Ends the extended-query cycle: commits the implicit transaction of what ran since the last one, or rolls it back after `fail`. */
  sync(): Promise<void> | undefined
  /** undefined: all that this session has done and seen is durable. Else resolves when it is; rejects when it can't be: the connection is then cut without a word. */
  barrier(seq?: number): Promise<void> | undefined
  /** Interrupts the running call, which then throws 57014; nothing if none runs or it is already committing. Repeated until the call has settled. */
  cancel(): void
  /** The client has gone: rolls back what is open and frees everything. Called once. */
  close(): Promise<void>
}
