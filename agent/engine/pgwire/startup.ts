/** How a connection begins: the packets without a type byte, and the settings that a client is told. */

import { protocolViolation, SqlError } from '../sql-error.ts'
import type { Role } from './login.ts'
import type { MessageReader } from './messages.ts'

const sslRequest = 80877103
const gssEncRequest = 80877104
const cancelRequest = 80877102
const protocolMajor = 3

export type StartupPacket =
  /** SSLRequest; else GSSENCRequest. */
  | { readonly kind: 'encryption'; readonly tls: boolean }
  | { readonly kind: 'cancel'; readonly id: number; readonly secret: number }
  | {
      readonly kind: 'startup'
      readonly user: string
      readonly database: string
      readonly parameters: Map<string, string>
      /** Newer minor version asked for, or protocol options we don't know: NegotiateProtocolVersion is due. */
      readonly negotiate: boolean
      readonly unknownOptions: readonly string[]
    }

/** Reads the packet that `nextStartup` found. Throws SqlError (FATAL) for one that we can't serve. */
export function readStartup(message: MessageReader): StartupPacket {
  const code = message.int32()
  if (code === sslRequest || code === gssEncRequest) {
    message.finish()
    return { kind: 'encryption', tls: code === sslRequest }
  }
  if (code === cancelRequest) {
    const id = message.int32()
    const secret = message.uint32()
    message.finish()
    return { kind: 'cancel', id, secret }
  }
  const [major, minor] = [code >>> 16, code & 0xffff]
  if (major !== protocolMajor) {
    throw new SqlError('0A000', `unsupported frontend protocol ${major}.${minor}: server supports 3.0`, { severity: 'FATAL' })
  }
  const parameters = new Map<string, string>()
  for (let name = message.cstring(); name !== ''; name = message.cstring()) parameters.set(name, message.cstring())
  message.finish()
  const user = parameters.get('user') ?? ''
  if (user === '') throw new SqlError('28000', 'no PostgreSQL user name specified in startup packet', { severity: 'FATAL' })
  if (parameters.get('replication') !== undefined && !/^(0|off|false|no)$/i.test(parameters.get('replication')!)) {
    throw protocolViolation('replication connections are not supported')
  }
  const unknownOptions = [...parameters.keys()].filter((name) => name.startsWith('_pq_.'))
  const database = parameters.get('database') || user
  for (const name of ['user', 'database', ...unknownOptions]) parameters.delete(name)
  return { kind: 'startup', user, database, parameters, negotiate: minor > 0 || unknownOptions.length > 0, unknownOptions }
}

/** What ParameterStatus reports after the start; drivers decide by these how to write and read literals. */
export function initialSettings(version: string, role: Role, applicationName: string): readonly (readonly [string, string])[] {
  return [
    ['server_version', `15.0 (DaemonGuard ${version})`],
    ['server_encoding', 'UTF8'],
    ['client_encoding', 'UTF8'],
    ['application_name', applicationName],
    ['is_superuser', 'off'],
    ['session_authorization', role.name],
    ['DateStyle', 'ISO, MDY'],
    ['IntervalStyle', 'postgres'],
    ['TimeZone', 'UTC'],
    ['integer_datetimes', 'on'],
    ['standard_conforming_strings', 'on'],
    ['default_transaction_read_only', role.readonly ? 'on' : 'off'],
    ['in_hot_standby', 'off'],
  ]
}
