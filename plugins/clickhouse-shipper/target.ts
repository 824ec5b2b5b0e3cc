/**
 * Target tables: created when absent, given the columns that they lack, and widened when DuckDB's column has changed its type.
 * Nothing is ever dropped or narrowed there; an operator's own column types are left as they are.
 */

import type { Column, Table } from '../../agent/journal/types.ts'
import type { Part, TargetKind } from './batch.ts'
import type { Features, Server } from './server.ts'
import { baseType, identifier, isNullableType, literal, targetType } from './types.ts'

/** Blocks whose tokens the server remembers per table, shared by all hosts that ship to it. */
const deduplicationWindow = 10_000

/** The target cannot take these rows as it is, and the shipper may not change that. */
export class UnfitTarget extends Error {
  readonly hint: string
  constructor(message: string, hint: string) {
    super(message)
    this.hint = hint
  }
}

export interface Target {
  readonly name: string
  readonly kind: TargetKind
  /** Type in ClickHouse by column name there. */
  readonly types: ReadonlyMap<string, string>
}

/** The name of a source column there. Names that begin like the shipper's own get one more underscore. */
export function targetColumn(name: string): string {
  return /^_+dg_/.test(name) ? `_${name}` : name
}

/** Makes the target fit for every version of the source table that the part has. Rejects when the server does; throws UnfitTarget. */
export async function ensureTarget(
  server: Server,
  database: string,
  part: Part,
  defaults: Readonly<Record<string, string>>,
): Promise<Target> {
  const features = await server.features()
  const known = (name: string) => features.types.has(name)
  let actual = await readColumns(server, database, part.target)
  if (actual.length === 0) {
    await server.command(createTable(database, part.target, part.versions.at(-1)!, part.kind, features))
    actual = await readColumns(server, database, part.target)
  }
  checkSortingKey(part, actual)
  const types = new Map(actual.map(({ name, type }) => [name, type]))
  const actions: string[] = []
  for (const version of part.versions) {
    version.columns.forEach((column, index) => {
      const name = targetColumn(column.name)
      const nullable = isNullable(column, version, index, part.kind)
      const wanted = targetType(column.type, nullable, known)
      const there = types.get(name)
      if (there === undefined) {
        const written = defaults[column.name]
        actions.push(
          `ADD COLUMN ${identifier(name)} ${wanted}${written === undefined ? '' : ` DEFAULT CAST(${literal(written)} AS ${wanted})`}`,
        )
        types.set(name, wanted)
      } else {
        const wider = widened(there, wanted)
        if (wider !== there) {
          actions.push(`MODIFY COLUMN ${identifier(name)} ${wider}`)
          types.set(name, wider)
        }
      }
    })
  }
  for (const action of actions) await server.command(`ALTER TABLE ${identifier(database)}.${identifier(part.target)} ${action}`)
  return { name: part.target, kind: part.kind, types }
}

/** Keys are never NULL; in the history the other columns of a delete are. */
function isNullable(column: Column, table: Table, index: number, kind: TargetKind): boolean {
  if (table.primaryKey.includes(index)) return false
  return column.nullable || (kind === 'history' && table.primaryKey.length > 0)
}

interface ActualColumn {
  name: string
  type: string
  sorting: number
}

async function readColumns(server: Server, database: string, table: string): Promise<ActualColumn[]> {
  return server.rows<ActualColumn>(
    `SELECT name, type, is_in_sorting_key AS sorting FROM system.columns WHERE database = ${literal(database)} AND table = ${literal(table)}`,
  )
}

function keyColumns(table: Table, kind: TargetKind): string[] {
  if (kind !== 'latest') return ['_dg_host', '_dg_seq', '_dg_row']
  return ['_dg_host', ...table.primaryKey.map((column) => targetColumn(table.columns[column]!.name))]
}

/** A table with another key would merge rows that are different. */
function checkSortingKey(part: Part, actual: readonly ActualColumn[]): void {
  const there = new Set(actual.map(({ name }) => name))
  const own = [
    '_dg_host',
    '_dg_seq',
    '_dg_time',
    ...(part.kind === 'history' ? ['_dg_op'] : ['_dg_deleted']),
    ...(part.kind === 'latest' ? [] : ['_dg_row']),
  ]
  const hint = `move it out of the way: RENAME TABLE ${identifier(part.target)} TO ${identifier(`${part.target}_old`)}; the shipper then creates it anew`
  const missing = own.filter((name) => !there.has(name))
  if (missing.length > 0)
    throw new UnfitTarget(`the table ${part.target} in ClickHouse was not made by DaemonGuard: it lacks ${missing.join(', ')}`, hint)
  const sorted = actual
    .filter(({ sorting }) => Number(sorting) === 1)
    .map(({ name }) => name)
    .sort()
  for (const version of part.versions) {
    const wanted = keyColumns(version, part.kind).sort()
    if (sorted.join('\n') === wanted.join('\n')) continue
    throw new UnfitTarget(
      `the table ${part.target} in ClickHouse is ordered by (${sorted.join(', ')}), the rows' key is (${wanted.join(', ')}): rows would be merged away`,
      hint,
    )
  }
}

function createTable(database: string, name: string, table: Table, kind: TargetKind, features: Features): string {
  const known = (type: string) => features.types.has(type)
  const columns = table.columns.map(
    (column, i) => `${identifier(targetColumn(column.name))} ${targetType(column.type, isNullable(column, table, i, kind), known)}`,
  )
  columns.push('_dg_host String', '_dg_seq UInt64', `_dg_time ${known('DateTime64') ? "DateTime64(3, 'UTC')" : 'DateTime'}`)
  if (kind === 'history') columns.push('_dg_op String')
  else columns.push('_dg_deleted UInt8')
  if (kind !== 'latest') columns.push('_dg_row UInt64')
  const engine = features.deletedRows && kind !== 'history' ? 'ReplacingMergeTree(_dg_seq, _dg_deleted)' : 'ReplacingMergeTree(_dg_seq)'
  const window = features.tableSettings.has('non_replicated_deduplication_window')
    ? ` SETTINGS non_replicated_deduplication_window = ${deduplicationWindow}`
    : ''
  const order = keyColumns(table, kind).map(identifier).join(', ')
  return `CREATE TABLE IF NOT EXISTS ${identifier(database)}.${identifier(name)} (${columns.join(', ')}) ENGINE = ${engine} ORDER BY (${order})${window}`
}

const integers = /^(U?)Int(\d+)$/
const ours = /^(?:Bool|U?Int\d+|Float(?:32|64)|Decimal\(.*\)|UUID|Date32|DateTime64\(.*\)|String|Array\(.*\)|Map\(.*\)|Tuple\(.*\))$/s

/** The type that holds both what is there and what comes: `there` itself when it does, or when it is an operator's own choice. */
export function widened(there: string, wanted: string): string {
  const [from, to] = [baseType(there), baseType(wanted)]
  if (!ours.test(from)) return there
  const base = holds(from, to) ? from : holds(to, from) ? to : 'String'
  const nullable = isNullableType(there) || isNullableType(wanted)
  if (base === from && nullable === isNullableType(there)) return there
  if (!nullable) return base
  return /^(?:Array|Map|Tuple)\(/.test(base) ? 'Nullable(String)' : `Nullable(${base})`
}

function holds(type: string, other: string): boolean {
  if (type.replaceAll(' ', '') === other.replaceAll(' ', '') || type === 'String') return true
  const [a, b] = [integers.exec(type), integers.exec(other)]
  if (a !== null && b !== null) return a[1] === b[1] ? Number(a[2]) >= Number(b[2]) : a[1] === '' && Number(a[2]) > Number(b[2])
  if (type === 'Float64' && other === 'Float32') return true
  const [c, d] = [/^Decimal\((\d+), ?(\d+)\)$/.exec(type), /^Decimal\((\d+), ?(\d+)\)$/.exec(other)]
  return c !== null && d !== null && c[2] === d[2] && Number(c[1]) >= Number(d[1])
}
