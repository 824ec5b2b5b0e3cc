/**
 * What is said once a session is open: simple queries, extended steps up to Sync, COPY. What the client is told of an error
 * is decided here; an SqlError of severity FATAL is thrown on, for the connection to end with.
 */

import type { Log } from '../../log.ts'
import { protocolViolation, SqlError } from '../sql-error.ts'
import type { BackendSession, CopySource, RowStream, StatementSink } from './backend.ts'
import type { CopyOptions } from './copy.ts'
import { copyOut } from './copy-out.ts'
import { CopyStream } from './copy-stream.ts'
import { Cursor } from './cursor.ts'
import { ExtendedQuery } from './extended.ts'
import { Frontend, type MessageReader, Server } from './messages.ts'
import type { Outbox } from './outbox.ts'
import * as responses from './responses.ts'

export interface ConversationHost {
  readonly log: Log
  /** Go on reading messages: COPY began, or has room again. */
  pump(): void
  /** The client has said Terminate. */
  hangUp(): void
  /** The connection is ending: the client is told why, and of nothing else. */
  readonly ending: boolean
}

export class Conversation {
  private readonly session: BackendSession
  private readonly outbox: Outbox
  private readonly host: ConversationHost
  private readonly sink: StatementSink
  private readonly extended: ExtendedQuery
  /** After an error in the extended protocol: everything up to Sync is skipped. */
  private skipping = false
  /** Set while the client is to send COPY data. */
  copy: CopyStream | undefined

  constructor(session: BackendSession, outbox: Outbox, host: ConversationHost) {
    this.session = session
    this.outbox = outbox
    this.host = host
    this.sink = this.createSink()
    this.extended = new ExtendedQuery(session, outbox, this.sink)
  }

  /** Handles one message; a promise when the engine has to be waited for. While `copy` is set, messages may come although a call runs. */
  handle(type: number, message: MessageReader): Promise<void> | undefined {
    if (this.copy !== undefined) return this.copyMessage(this.copy, type, message)
    switch (type) {
      case Frontend.terminate:
        return this.host.hangUp() as undefined
      case Frontend.sync:
        message.finish()
        return this.sync()
      case Frontend.copyData:
      case Frontend.copyDone:
      case Frontend.copyFail:
        // Still on their way when COPY failed: ignored, as the protocol says.
        return undefined
    }
    if (this.skipping) return undefined
    switch (type) {
      case Frontend.query:
        return this.simpleQuery(message)
      case Frontend.functionCall:
        responses.errorResponse(
          this.outbox.writer,
          new SqlError('0A000', 'the function call protocol is not supported', { hint: 'Use SELECT.' }),
        )
        return this.ready()
      default:
        return this.extendedStep(type, message)
    }
  }

  /** DEALLOCATE, of one (false: there is none of that name) or of all. */
  deallocate(name: string | undefined): boolean {
    return this.extended.deallocate(name)
  }

  /** ReadyForQuery: the answers so far may go. `committed`: it may tell of a commit that none of them told of. */
  ready(committed = true): undefined {
    const { outbox } = this
    const from = outbox.writer.length
    responses.readyForQuery(outbox.writer, this.session.transactionStatus)
    if (!committed) outbox.harmless(from, 0)
    outbox.flush()
  }

  private async simpleQuery(message: MessageReader): Promise<void> {
    let running = false
    try {
      const sql = message.cstring()
      message.finish()
      await this.extended.dropUnnamed()
      running = true
      await this.session.simpleQuery(sql, this.sink)
    } catch (error) {
      this.report(error)
      if (!running) {
        await this.session.fail()
        await this.session.sync()
      }
    }
    this.copy = undefined
    if (this.session.transactionStatus === 'I') await this.extended.closePortals()
    this.ready(false)
  }

  private extendedStep(type: number, message: MessageReader): Promise<void> | undefined {
    try {
      return this.extended.handle(type, message)?.catch((error: unknown) => this.failStep(error))
    } catch (error) {
      return this.failStep(error)
    }
  }

  private failStep(error: unknown): Promise<void> | undefined {
    this.skipping = true
    this.copy = undefined
    this.report(error)
    // The client may wait for it before it sends its Sync.
    this.outbox.flush()
    return this.session.fail()
  }

  private sync(): Promise<void> | undefined {
    this.skipping = false
    // Outside a transaction block Sync ends the transaction, and a portal ends with its transaction.
    const closing = this.session.transactionStatus === 'T' ? undefined : this.extended.closePortals()
    if (closing !== undefined) return this.finishSync(closing.then(() => this.session.sync()))
    const work = this.session.sync()
    return work === undefined ? this.ready(false) : this.finishSync(work)
  }

  private async finishSync(work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (error) {
      this.report(error)
    }
    this.ready()
  }

  private copyMessage(copy: CopyStream, type: number, message: MessageReader): undefined {
    switch (type) {
      case Frontend.copyData:
        return copy.push(message.bytes(message.remaining)) as undefined
      case Frontend.copyDone:
        message.finish()
        copy.end()
        break
      case Frontend.copyFail:
        copy.abort(new SqlError('57014', `COPY from stdin failed: ${message.cstring()}`))
        break
      case Frontend.flush:
      case Frontend.sync:
        return undefined // ignored in copy mode, as the protocol says
      case Frontend.terminate:
        return this.host.hangUp() as undefined
      default:
        throw protocolViolation(`unexpected message type "${String.fromCharCode(type)}" during COPY from stdin`)
    }
    copy.deliver()
    this.copy = undefined
  }

  /** Tells the client of an error; throws one that ends the connection. */
  private report(error: unknown): void {
    const sqlError = responses.toSqlError(error)
    if (sqlError.severity === 'FATAL') throw sqlError
    if (this.host.ending) return
    if (sqlError !== error) this.host.log.error({ err: error }, 'a statement failed in a way nobody foresaw')
    responses.errorResponse(this.outbox.writer, sqlError)
  }

  private createSink(): StatementSink {
    const { outbox } = this
    const { writer } = outbox
    return {
      async rows(stream: RowStream): Promise<void> {
        const cursor = new Cursor(stream, [])
        try {
          responses.rowDescription(writer, stream.fields, [])
          await cursor.send(outbox, Number.POSITIVE_INFINITY)
        } finally {
          await cursor.close()
        }
        responses.commandComplete(writer, cursor.tag)
      },
      async copyOut(stream: RowStream, options: CopyOptions): Promise<number> {
        try {
          return await copyOut(stream, options, outbox)
        } finally {
          await stream.close()
        }
      },
      complete: (tag) => responses.commandComplete(writer, tag),
      foreseen: (tag, seq) => {
        const from = writer.length
        responses.commandComplete(writer, tag)
        outbox.harmless(from, seq)
      },
      empty: () => writer.empty(Server.emptyQuery),
      notice: (severity, code, message) => responses.noticeResponse(writer, severity, code, message),
      copyIn: (format, columnCount): CopySource => {
        responses.copyInResponse(writer, format === 'binary' ? 1 : 0, columnCount)
        outbox.flush()
        const copy = new CopyStream(() => this.host.pump())
        this.copy = copy
        queueMicrotask(() => this.host.pump()) // its data may have arrived already
        return copy
      },
    }
  }
}
