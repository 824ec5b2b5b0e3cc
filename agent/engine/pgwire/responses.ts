/** The server's messages, field by field. https://www.postgresql.org/docs/15/protocol-message-formats.html */

import { messageOf } from '../../errors.ts'
import type { ColumnType } from '../../journal/types.ts'
import { SqlError } from '../sql-error.ts'
import type { Field } from './backend.ts'
import type { Format } from './encoding.ts'
import { type MessageWriter, Server } from './messages.ts'
import { modifierOf, Oid, oidOf, sizeOf } from './types.ts'

export function authenticationOk(writer: MessageWriter): void {
  writer.begin(Server.authentication)
  writer.int32(0)
  writer.finish()
}

/** AuthenticationSASL: the mechanisms to choose from, the best one first. */
export function authenticationSasl(writer: MessageWriter, mechanisms: readonly string[]): void {
  writer.begin(Server.authentication)
  writer.int32(10)
  for (const mechanism of mechanisms) writer.cstring(mechanism)
  writer.uint8(0)
  writer.finish()
}

/** AuthenticationSASLContinue, AuthenticationSASLFinal. */
export function authenticationData(writer: MessageWriter, step: 'continue' | 'final', data: Buffer): void {
  writer.begin(Server.authentication)
  writer.int32(step === 'continue' ? 11 : 12)
  writer.bytes(data)
  writer.finish()
}

export function backendKeyData(writer: MessageWriter, id: number, secret: number): void {
  writer.begin(Server.backendKeyData)
  writer.int32(id)
  writer.uint32(secret)
  writer.finish()
}

export function parameterStatus(writer: MessageWriter, name: string, value: string): void {
  writer.begin(Server.parameterStatus)
  writer.cstring(name)
  writer.cstring(value)
  writer.finish()
}

/** Answers a newer minor version, or protocol options (`_pq_.…`) that we don't know: the client may go on in 3.0. */
export function negotiateVersion(writer: MessageWriter, unknownOptions: readonly string[]): void {
  writer.begin(Server.negotiateVersion)
  writer.int32(3 << 16)
  writer.int32(unknownOptions.length)
  for (const option of unknownOptions) writer.cstring(option)
  writer.finish()
}

export function readyForQuery(writer: MessageWriter, status: 'I' | 'T' | 'E'): void {
  writer.begin(Server.readyForQuery)
  writer.uint8(status.charCodeAt(0))
  writer.finish()
}

export function commandComplete(writer: MessageWriter, tag: string): void {
  writer.begin(Server.commandComplete)
  writer.cstring(tag)
  writer.finish()
}

export function rowDescription(writer: MessageWriter, fields: readonly Field[], formats: readonly Format[]): void {
  writer.begin(Server.rowDescription)
  writer.int16(fields.length)
  for (const [i, field] of fields.entries()) {
    const oid = oidOf(field.type)
    writer.cstring(field.name)
    writer.int32(0) // no table, no attribute number: drivers use them for updatable result sets only
    writer.int16(0)
    writer.int32(oid)
    writer.int16(sizeOf(oid))
    writer.int32(modifierOf(field.type))
    writer.int16(formats[i] ?? 0)
  }
  writer.finish()
}

export function parameterDescription(writer: MessageWriter, declared: readonly number[], inferred: readonly (ColumnType | null)[]): void {
  writer.begin(Server.parameterDescription)
  writer.uint16(inferred.length)
  for (const [i, type] of inferred.entries()) writer.int32(declared[i] || (type === null ? Oid.text : oidOf(type)))
  writer.finish()
}

/** CopyInResponse. `format` 0: text and csv; 1: binary. */
export function copyInResponse(writer: MessageWriter, format: Format, columnCount: number): void {
  copyResponse(writer, Server.copyIn, format, columnCount)
}

export function copyOutResponse(writer: MessageWriter, format: Format, columnCount: number): void {
  copyResponse(writer, Server.copyOut, format, columnCount)
}

function copyResponse(writer: MessageWriter, type: number, format: Format, columnCount: number): void {
  writer.begin(type)
  writer.uint8(format)
  writer.int16(columnCount)
  for (let i = 0; i < columnCount; i++) writer.int16(format)
  writer.finish()
}

export function errorResponse(writer: MessageWriter, error: SqlError, severity: 'ERROR' | 'FATAL' = error.severity): void {
  writer.begin(Server.error)
  report(writer, severity, error.code, error.message)
  if (error.detail !== undefined) field(writer, 'D', error.detail)
  if (error.hint !== undefined) field(writer, 'H', error.hint)
  if (error.position !== undefined) field(writer, 'P', String(error.position))
  if (error.routine !== undefined) field(writer, 'R', error.routine)
  writer.uint8(0)
  writer.finish()
}

export function noticeResponse(writer: MessageWriter, severity: string, code: string, message: string): void {
  writer.begin(Server.notice)
  report(writer, severity, code, message)
  writer.uint8(0)
  writer.finish()
}

/** Anything thrown, as an error for the client: what is not an SqlError is a fault of ours. */
export function toSqlError(error: unknown): SqlError {
  return error instanceof SqlError ? error : new SqlError('XX000', messageOf(error), { cause: error })
}

function report(writer: MessageWriter, severity: string, code: string, message: string): void {
  field(writer, 'S', severity)
  field(writer, 'V', severity)
  field(writer, 'C', code)
  field(writer, 'M', message)
}

function field(writer: MessageWriter, type: string, value: string): void {
  writer.uint8(type.charCodeAt(0))
  writer.cstring(value)
}
