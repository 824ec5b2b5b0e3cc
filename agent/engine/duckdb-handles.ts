/**
 * The addresses of DuckDB's objects, out of the handles that the addon gives for them: other threads, and calls that the addon does not have, need them.
 *
 * A handle is a Node-API External: V8 keeps the address of Node's own record of it (which `util.inspect` shows), and that holds the addon's pointer, followed by
 * the 128-bit tag that the addon gave it (js_native_api_v8.cc: ExternalWrapper). An address is believed only where that tag is found.
 */

import { inspect } from 'node:util'
import koffi from 'koffi'
import { duckdbLibrary } from './duckdb-library.ts'

/** By which the addon knows its handles: duckdb-node-neo, bindings/src/type_tags.h. */
const tags = {
  database: [0x835a8533653c40d1n, 0x83b3be2b233ba8f3n],
  statement: [0xa8b03dad16d34416n, 0x9735a7e1f2a1240cn],
  pending: [0x257e88ece8294fecn, 0xb64963bbbd1dbb41n],
  result: [0x08f7fe3ae12345e5n, 0x8733310dc29372d9n],
  chunk: [0x2c7537ab063a4296n, 0xb1e70f08b0bbd1a3n],
} as const

/** 64-bit words of Node's record of an External that are looked at. */
const recordWords = 5

function words(address: bigint, count: number): bigint[] {
  return Array.from(koffi.decode(address, koffi.array('uint64_t', count)) as ArrayLike<number | bigint>, BigInt)
}

/** The addon's pointer in a handle. Throws where it is not to be found: this Node keeps it in another way. */
export function addressOf(handle: unknown, kind: keyof typeof tags): bigint {
  const shown = /^\[External: (?:0x)?([0-9a-f]+)\]$/i.exec(inspect(handle))?.[1]
  const record = shown === undefined ? [] : words(BigInt(`0x${shown}`), recordWords)
  const [low, high] = tags[kind]
  const at = record.findIndex((word, i) => i > 0 && word === low && record[i + 1] === high)
  if (at === -1) throw new Error(`DuckDB's ${kind} is not where this program looks for it in Node ${process.version}`)
  return record[at - 1] as bigint
}

/** What the handles of some hold: a holder, whose first word is the pointer. */
function heldBy(handle: unknown, kind: keyof typeof tags): bigint {
  return words(addressOf(handle, kind), 1)[0] as bigint
}

/** The duckdb_database. */
export function databaseOf(handle: unknown): bigint {
  return heldBy(handle, 'database')
}

/** The duckdb_prepared_statement, until it is destroyed. */
export function statementOf(handle: unknown): bigint {
  return heldBy(handle, 'statement')
}

let resultError: ((result: bigint) => string | null) | undefined

/** Why a result gives no more rows; null: it has no more. */
export function errorOf(result: unknown): string | null {
  resultError ??= duckdbLibrary().func('const char *duckdb_result_error(void *result)')
  return resultError(addressOf(result, 'result'))
}
