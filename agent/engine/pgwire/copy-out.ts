/** COPY … TO STDOUT: rows as text, csv or binary, one CopyData message each, as fast as the client takes them. */

import type { Cell } from '../../journal/types.ts'
import { SqlError } from '../sql-error.ts'
import type { RowStream } from './backend.ts'
import type { CopyOptions } from './copy.ts'
import { signature } from './copy-binary.ts'
import { encoderOf } from './encoding.ts'
import { type MessageWriter, Server } from './messages.ts'
import { cellAt } from './numbers.ts'
import type { Outbox } from './outbox.ts'
import { copyOutResponse } from './responses.ts'
import { type Printer, printerOf } from './text.ts'

/** Bytes that leave in one write. */
const flushBytes = 64 * 1024

type RowWriter = (writer: MessageWriter, cells: readonly Cell[]) => void

/** Sends all rows; resolves with their number. The stream is the caller's to close. */
export async function copyOut(stream: RowStream, options: CopyOptions, outbox: Outbox): Promise<number> {
  const { writer } = outbox
  const binary = options.format === 'binary'
  const write = binary ? binaryRow(stream) : textRow(stream, options)
  copyOutResponse(writer, binary ? 1 : 0, stream.fields.length)
  // No flags, no extension.
  if (binary) message(writer, () => writer.bytes(Buffer.concat([signature, Buffer.alloc(8)])))
  else if (options.header) message(writer, () => writer.utf8(headLine(stream, options)))
  let count = 0
  for (;;) {
    const chunk = await stream.next(true)
    if (chunk === null) break
    for (let row = 0; row < chunk.count; row++) {
      const cells = chunk.columns.map((column) => cellAt(column, row))
      message(writer, () => write(writer, cells))
      if (writer.length < flushBytes) continue
      outbox.flush()
      const room = outbox.room()
      if (room !== undefined) await room
    }
    count += chunk.count
  }
  if (binary) message(writer, () => writer.int16(-1))
  writer.empty(Server.copyDone)
  return count
}

function message(writer: MessageWriter, body: () => void): void {
  writer.begin(Server.copyData)
  try {
    body()
  } catch (error) {
    writer.abandon()
    throw error
  }
  writer.finish()
}

function binaryRow(stream: RowStream): RowWriter {
  const encoders = stream.fields.map(({ type }) => encoderOf(type, 1))
  return (writer, cells) => {
    writer.int16(encoders.length)
    for (const [i, encode] of encoders.entries()) {
      const cell = cells[i] as Cell
      if (cell === null) writer.int32(-1)
      else encode(writer, cell)
    }
  }
}

function textRow(stream: RowStream, options: CopyOptions): RowWriter {
  const printers: readonly Printer[] = stream.fields.map(({ type }) => printerOf(type))
  const { nothing, delimiter, spell } = spelling(options)
  return (writer, cells) => {
    writer.utf8(`${cells.map((cell, i) => (cell === null ? nothing : spell((printers[i] as Printer)(cell)))).join(delimiter)}\n`)
  }
}

function headLine(stream: RowStream, options: CopyOptions): string {
  const { delimiter, spell } = spelling(options)
  return `${stream.fields.map(({ name }) => spell(name)).join(delimiter)}\n`
}

/** How values are told from what stands between them. Throws 22023 as the parser of the other direction does. */
function spelling(options: CopyOptions): { nothing: string; delimiter: string; spell: (text: string) => string } {
  const csv = options.format === 'csv'
  const delimiter = oneByte('delimiter', options.delimiter ?? (csv ? ',' : '\t'))
  const nothing = options.null ?? (csv ? '' : '\\N')
  if (/[\r\n]/.test(nothing) || nothing.includes(delimiter)) throw new SqlError('22023', 'COPY null representation is not usable')
  if (!csv) {
    const letters: Readonly<Record<string, string>> = { '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v' }
    return {
      nothing,
      delimiter,
      spell: (text) => text.replace(/[\\\b\f\n\r\t\v]/g, (c) => `\\${letters[c] ?? c}`).replaceAll(delimiter, `\\${delimiter}`),
    }
  }
  const quote = oneByte('quote', options.quote ?? '"')
  const escapeWith = oneByte('escape', options.escape ?? quote)
  const quoted = (text: string) => {
    let out = quote
    for (const char of text) out += char === quote || char === escapeWith ? escapeWith + char : char
    return out + quote
  }
  // An empty text, the null mark and the end mark are quoted, or they would come back as something else.
  const plain = (text: string) =>
    text !== nothing && text !== '\\.' && !/[\r\n]/.test(text) && !text.includes(delimiter) && !text.includes(quote)
  return { nothing, delimiter, spell: (text) => (plain(text) ? text : quoted(text)) }
}

function oneByte(what: string, value: string): string {
  if (value.length !== 1 || value.charCodeAt(0) > 127 || /[\r\n]/.test(value))
    throw new SqlError('22023', `COPY ${what} must be a single one-byte character`)
  return value
}
