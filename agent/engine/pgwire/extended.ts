/** The extended query protocol of one connection: prepared statements and portals, and the messages that act on them. */

import type { ColumnType } from '../../journal/types.ts'
import { protocolViolation, SqlError } from '../sql-error.ts'
import { parseArray } from './arrays.ts'
import type { BackendSession, Field, Parameter, PreparedQuery, StatementSink } from './backend.ts'
import { Cursor } from './cursor.ts'
import { decodeParameter } from './decoding.ts'
import { encoderOf, type Format } from './encoding.ts'
import { Frontend, type MessageReader, Server } from './messages.ts'
import type { Outbox } from './outbox.ts'
import { commandComplete, parameterDescription, rowDescription } from './responses.ts'
import { isInteger, typeName, typeOf } from './types.ts'

interface Statement {
  readonly query: PreparedQuery
  readonly declaredOids: readonly number[]
}

interface Portal {
  readonly statement: Statement
  readonly parameters: readonly Parameter[]
  readonly formats: readonly Format[]
  state: 'bound' | 'open' | 'done'
  cursor: Cursor | undefined
}

const statement = 0x53 // 'S'
const portal = 0x50 // 'P'

export class ExtendedQuery {
  private readonly session: BackendSession
  private readonly outbox: Outbox
  private readonly sink: StatementSink
  private readonly statements = new Map<string, Statement>()
  private readonly portals = new Map<string, Portal>()

  constructor(session: BackendSession, outbox: Outbox, sink: StatementSink) {
    this.session = session
    this.outbox = outbox
    this.sink = sink
  }

  /** Handles a message other than Sync. Throws (or rejects with) what the client is told; undefined: done already. */
  handle(type: number, message: MessageReader): Promise<void> | undefined {
    switch (type) {
      case Frontend.parse:
        return this.parse(message)
      case Frontend.bind:
        return this.bind(message)
      case Frontend.describe:
        return this.describe(message)
      case Frontend.execute:
        return this.execute(message)
      case Frontend.close:
        return this.close(message)
      case Frontend.flush:
        message.finish()
        return this.outbox.flush() as undefined
      default:
        throw protocolViolation(`unexpected message type "${String.fromCharCode(type)}"`)
    }
  }

  /** Drops all portals: they end with their transaction. */
  closePortals(): Promise<void> | undefined {
    if (this.portals.size === 0) return undefined
    const cursors = [...this.portals.values()].flatMap((portal) => portal.cursor ?? [])
    this.portals.clear()
    if (cursors.length === 0) return undefined
    return (async () => {
      for (const cursor of cursors) await cursor.close()
    })()
  }

  /** A simple query replaces the unnamed statement and portal. */
  dropUnnamed(): Promise<void> | undefined {
    this.dropStatement('')
    return this.dropPortal('')
  }

  /** Drops a prepared statement, or (undefined) all that have a name; false: there is none of that name. */
  deallocate(name: string | undefined): boolean {
    const names = name === undefined ? [...this.statements.keys()].filter((each) => each !== '') : [name]
    if (name === '' || (name !== undefined && !this.statements.has(name))) return false
    for (const each of names) this.dropStatement(each)
    return true
  }

  private async parse(message: MessageReader): Promise<void> {
    const name = message.cstring()
    const sql = message.cstring()
    const declaredOids = Array.from({ length: message.uint16() }, () => message.uint32())
    message.finish()
    if (name === '') this.dropStatement('')
    else if (this.statements.has(name)) throw new SqlError('42P05', `prepared statement "${name}" already exists`)
    this.statements.set(name, { query: await this.session.parse(sql, declaredOids), declaredOids })
    // It tells of what the statement is about: whoever is told has waited for all that Parse has seen.
    this.outbox.writer.empty(Server.parseComplete)
  }

  private bind(message: MessageReader): Promise<void> | undefined {
    const name = message.cstring()
    const statementName = message.cstring()
    const formats = readFormats(message)
    const count = message.uint16()
    // Where the values lie; they are decoded once the statement is known, but the message must be well-formed first.
    const places: (Place | null)[] = []
    for (let i = 0; i < count; i++) {
      const length = message.int32()
      places.push(length === -1 ? null : { start: message.skip(length), length })
    }
    const resultFormats = readFormats(message)
    message.finish()
    const target = this.statement(statementName)
    const { parameterTypes, fields } = target.query
    if (formats.length > 1 && formats.length !== count) {
      throw new SqlError('08P01', `bind message has ${formats.length} parameter formats but ${count} parameters`)
    }
    if (count !== parameterTypes.length) {
      const what = `bind message supplies ${count} parameters, but prepared statement "${statementName}" requires ${parameterTypes.length}`
      throw new SqlError('08P01', what)
    }
    const parameters: Parameter[] = []
    for (let i = 0; i < count; i++) {
      const format = formats.length === 1 ? formats[0] : formats[i]
      const place = places[i] as Place | null
      parameters.push(readParameter(message, place, format ?? 0, target.declaredOids[i] ?? 0, parameterTypes[i] ?? null, i + 1))
    }
    const spread = spreadFormats(resultFormats, fields)
    if (name !== '' && this.portals.has(name)) throw new SqlError('42P03', `cursor "${name}" already exists`)
    const closing = this.dropPortal(name)
    this.portals.set(name, { statement: target, parameters, formats: spread, state: 'bound', cursor: undefined })
    const done = () => this.acknowledge(Server.bindComplete)
    return closing === undefined ? (done() as undefined) : closing.then(done)
  }

  private describe(message: MessageReader): undefined {
    const kind = message.uint8()
    const name = message.cstring()
    message.finish()
    const { writer } = this.outbox
    const from = writer.length
    if (kind === statement) {
      const { query, declaredOids } = this.statement(name)
      parameterDescription(writer, declaredOids, query.parameterTypes)
      describeRows(this.outbox, query.fields, [])
    } else if (kind === portal) {
      const target = this.portal(name)
      describeRows(this.outbox, target.statement.query.fields, target.formats)
    } else {
      throw protocolViolation(`invalid DESCRIBE message subtype ${kind}`)
    }
    // What Parse has found, and its answer has told of.
    this.outbox.harmless(from, 0)
  }

  private execute(message: MessageReader): Promise<void> {
    const name = message.cstring()
    const limit = message.int32()
    message.finish()
    return this.run(name, this.portal(name), limit > 0 ? limit : Number.POSITIVE_INFINITY, message.following === Frontend.sync)
  }

  private async run(name: string, target: Portal, limit: number, syncFollows: boolean): Promise<void> {
    const { writer } = this.outbox
    const { query } = target.statement
    if (target.state === 'done') {
      if (query.fields === null) throw new SqlError('55000', `portal "${name}" cannot be run`)
      return commandComplete(writer, 'SELECT 0')
    }
    if (target.state === 'bound') {
      target.state = 'done' // also when it fails: a portal runs once
      const stream = await this.session.execute(query, target.parameters, this.sink, syncFollows)
      if (stream === undefined) return
      try {
        target.cursor = new Cursor(stream, target.formats)
      } catch (error) {
        await stream.close()
        throw error
      }
      target.state = 'open'
    }
    const cursor = target.cursor!
    try {
      if (!(await cursor.send(this.outbox, limit))) return writer.empty(Server.portalSuspended)
    } catch (error) {
      target.state = 'done'
      await cursor.close()
      throw error
    }
    target.state = 'done'
    await cursor.close()
    commandComplete(writer, cursor.tag)
  }

  private close(message: MessageReader): Promise<void> | undefined {
    const kind = message.uint8()
    const name = message.cstring()
    message.finish()
    if (kind !== statement && kind !== portal) throw protocolViolation(`invalid CLOSE message subtype ${kind}`)
    const done = () => this.acknowledge(Server.closeComplete)
    const closing = kind === statement ? this.dropStatement(name) : this.dropPortal(name)
    return closing === undefined ? (done() as undefined) : closing.then(done)
  }

  /** A message that says no more than that the client's own was taken. */
  private acknowledge(type: number): void {
    const { outbox } = this
    const from = outbox.writer.length
    outbox.writer.empty(type)
    outbox.harmless(from, 0)
  }

  private statement(name: string): Statement {
    const found = this.statements.get(name)
    if (found === undefined)
      throw new SqlError('26000', name === '' ? 'unnamed prepared statement does not exist' : `prepared statement "${name}" does not exist`)
    return found
  }

  private portal(name: string): Portal {
    const found = this.portals.get(name)
    if (found === undefined) throw new SqlError('34000', `portal "${name}" does not exist`)
    return found
  }

  private dropStatement(name: string): undefined {
    const found = this.statements.get(name)
    if (found === undefined) return
    this.statements.delete(name)
    this.session.forget(found.query)
  }

  private dropPortal(name: string): Promise<void> | undefined {
    const found = this.portals.get(name)
    if (found === undefined) return undefined
    this.portals.delete(name)
    return found.cursor?.close()
  }
}

function describeRows(outbox: Outbox, fields: readonly Field[] | null, formats: readonly Format[]): void {
  if (fields === null) outbox.writer.empty(Server.noData)
  else rowDescription(outbox.writer, fields, formats)
}

function readFormats(message: MessageReader): Format[] {
  const count = message.uint16()
  const formats: Format[] = []
  for (let i = 0; i < count; i++) {
    const format = message.int16()
    if (format !== 0 && format !== 1) throw protocolViolation(`invalid format code ${format}`)
    formats.push(format)
  }
  return formats
}

/** One format per column; refuses at once what could not be sent later. */
function spreadFormats(given: readonly Format[], fields: readonly Field[] | null): readonly Format[] {
  if (fields === null) return given.length === 1 ? given : []
  if (given.length > 1 && given.length !== fields.length) {
    throw new SqlError('08P01', `bind message has ${given.length} result formats but query has ${fields.length} columns`)
  }
  const formats = fields.map((_, i) => (given.length === 1 ? given[0]! : (given[i] ?? 0)))
  for (const [i, field] of fields.entries()) if (formats[i] === 1) encoderOf(field.type, 1)
  return formats
}

/** Of a value's bytes in its message. */
interface Place {
  readonly start: number
  readonly length: number
}

function readParameter(
  message: MessageReader,
  place: Place | null,
  format: Format,
  oid: number,
  inferred: ColumnType | null,
  number: number,
): Parameter {
  if (place === null) return null
  const { start, length } = place
  if (format === 1) return decodeParameter(message.bytesAt(start, length), oid, inferred, number)
  const text = message.textAt(start, length)
  const type = inferred ?? typeOf(oid)
  if ((type?.kind === 'LIST' || type?.kind === 'ARRAY') && text.trimStart().startsWith('{')) return parseArray(text)
  // As Postgres prints it: '1 mon -2 days +03:00:00'. DuckDB reads no plus.
  if (type?.kind === 'INTERVAL') return text.replaceAll('+', '')
  // DuckDB would round '1.5' without a word.
  if (inferred !== null && isInteger(inferred) && !/^\s*[+-]?\d+\s*$/.test(text))
    throw new SqlError('22P02', `invalid input syntax for type ${typeName(inferred)} of parameter $${number}: "${text.slice(0, 100)}"`)
  return text
}
