/**
 * Postgres' system catalog over DuckDB's, as psql, drivers and BI tools ask for it: views in the instance's memory, made anew at every start, of the
 * guarded database alone. What DuckDB itself has under these names lacks columns and shows other catalogs. dialect.ts leads queries here.
 */

import { ownSchema } from '../catalog.ts'
import { constraintNames } from '../constraint-names.ts'
import { folded } from '../foreign-keys.ts'
import { catalogTypes } from '../pgwire/types.ts'
import { quoteIdentifier, quoteString } from '../sql/tokens.ts'
import { type CatalogRelation, catalogColumns } from './columns.ts'
import { catalogMacros, typeMacros } from './macros.ts'

/** Where views and macros live. */
export const catalogSchema = 'memory.postgres'
export const informationSchema = 'memory.information'

/** The views of information_schema that are shown of the guarded database alone; and which column names the catalog. */
export const informationViews: Readonly<Record<string, string>> = {
  tables: 'table',
  columns: 'table',
  schemata: '',
  table_constraints: 'constraint',
  key_column_usage: 'constraint',
  constraint_column_usage: 'constraint',
  constraint_table_usage: 'constraint',
  referential_constraints: 'constraint',
  views: 'table',
}

const sameSchema = (row: string) => `${row}.database_name = k.database_name AND ${row}.schema_name = k.schema_name`
const writtenColumns = `list_transform(k.referenced_column_names, name -> ${folded('name')})`
/** Whether `row`, of duckdb_tables(), duckdb_columns() or duckdb_constraints(), is (of) the table that a foreign key `k` of duckdb_constraints() references. */
const isReferenced = (row: string) => `${sameSchema(row)} AND ${folded(`${row}.table_name`)} = ${folded('k.referenced_table')}`
const referencedTable = `(SELECT any_value(p.table_name) FROM duckdb_tables() p WHERE ${isReferenced('p')})`
/** Something of each referenced column `c` of duckdb_columns(), in the order of the foreign key. */
const ofReferencedColumns = (what: string) =>
  `(SELECT list(${what} ORDER BY list_position(${writtenColumns}, ${folded('c.column_name')})) FROM duckdb_columns() c WHERE ${isReferenced('c')} AND list_contains(${writtenColumns}, ${folded('c.column_name')}))`
const referencedColumns = ofReferencedColumns('c.column_name')

interface Rows {
  /** Columns that have more to say than "nothing". */
  readonly columns: Readonly<Record<string, string>>
  readonly from: string
}

/** The text by which ../table-shape.ts knows a constraint, of a row `k` of duckdb_constraints(). */
function definitionOf(): string {
  const quoted = (name: string) => `'"' || replace(${name}, '"', '""') || '"'`
  const list = (names: string) => `array_to_string(list_transform(${names}, name -> ${quoted('name')}), ', ')`
  const reference = `${quoted('k.schema_name')} || '.' || ${quoted(referencedTable)} || ' (' || ${list(referencedColumns)} || ')'`
  const columns = list('k.constraint_column_names')
  return `CASE k.constraint_type WHEN 'FOREIGN KEY' THEN 'FOREIGN KEY (' || ${columns} || ') REFERENCES ' || ${reference} WHEN 'CHECK' THEN 'CHECK (' || k.expression || ')' ELSE k.constraint_type || ' (' || ${columns} || ')' END`
}

/** The name that was written for a constraint, a row `k` of duckdb_constraints(); DuckDB's own where none was. */
function nameOf(catalog: string): string {
  const names = `${quoteIdentifier(catalog)}.${constraintNames}`
  return `coalesce((SELECT any_value(w.constraint_name) FROM ${names} w WHERE w.schema_name = k.schema_name AND w.table_name = k.table_name AND w.definition = ${definitionOf()}), k.constraint_name)`
}

/** Key and unique constraints have indexes of their own in Postgres; DuckDB does not name them. */
const indexOf = (row: string) => `1000000000 + ${row}table_oid * 100 + ${row}constraint_index`
const constraintIndex = indexOf('')

function relations(catalog: string): Partial<Record<CatalogRelation, Rows>> {
  const own = `database_name = ${quoteString(catalog)} AND schema_name <> ${quoteString(ownSchema)}`
  const types = catalogTypes()
    .map(({ oid, name, size, category, element, array }) => `(${oid}, '${name}', ${size}, '${category}', ${element}, ${array})`)
    .join(', ')
  const keys = `duckdb_constraints() k WHERE ${own} AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')`
  const object = (kind: string, name: string, oid: string, from: string, facts: string) =>
    `SELECT ${oid} AS oid, ${name} AS name, schema_oid, schema_name, '${kind}' AS kind, ${facts} FROM ${from}`
  const noFacts = '0 AS natts, false AS indexed, 0 AS checks, false AS related, NULL AS comment'
  const objects = [
    object(
      'r',
      'table_name',
      'table_oid',
      `duckdb_tables() WHERE ${own}`,
      `column_count AS natts, has_primary_key OR index_count > 0 AS indexed, check_constraint_count AS checks, table_oid IN (SELECT table_oid FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY') OR table_name IN (SELECT ${referencedTable} FROM duckdb_constraints() k WHERE constraint_type = 'FOREIGN KEY') AS related, comment`,
    ),
    object(
      'v',
      'view_name',
      'view_oid',
      `duckdb_views() WHERE NOT internal AND ${own}`,
      'column_count AS natts, false AS indexed, 0 AS checks, false AS related, comment',
    ),
    object('S', 'sequence_name', 'sequence_oid', `duckdb_sequences() WHERE ${own}`, noFacts),
    object('i', 'index_name', 'index_oid', `duckdb_indexes() WHERE ${own}`, noFacts),
    object('i', nameOf(catalog), constraintIndex, keys, noFacts),
  ].join(' UNION ALL ')
  return {
    pg_namespace: {
      columns: { oid: 'oid', nspname: 'schema_name', nspowner: '10' },
      from: `(SELECT oid, schema_name FROM duckdb_schemas() WHERE ${own} UNION ALL SELECT * FROM (VALUES (11, 'pg_catalog'), (12, 'information_schema')))`,
    },
    pg_class: {
      columns: {
        ...{
          oid: 'oid',
          relname: 'name',
          relnamespace: 'schema_oid',
          relowner: '10',
          relkind: 'kind',
          relnatts: 'natts',
          relchecks: 'checks',
        },
        ...{ relhasindex: 'indexed', relhastriggers: 'related', relpersistence: "'p'", relreplident: "'d'", relispopulated: 'true' },
        ...{ reltuples: '-1', relam: "CASE kind WHEN 'i' THEN 403 WHEN 'r' THEN 2 ELSE 0 END", relfilenode: 'oid' },
      },
      from: `(${objects})`,
    },
    pg_attribute: {
      columns: {
        ...{ attrelid: 'table_oid', attname: 'column_name', attnum: 'column_index', attnotnull: 'NOT is_nullable', attlen: '-1' },
        ...{ atttypid: `${catalogSchema}._type_oid(data_type)`, atttypmod: `${catalogSchema}._type_modifier(data_type)` },
        ...{
          atthasdef: "column_default IS NOT NULL AND column_default <> 'NULL'",
          attislocal: 'true',
          attidentity: "''",
          attgenerated: "''",
        },
        ...{ attstorage: "'p'", attcompression: "''", attstattarget: '-1', attalign: "'i'" },
      },
      from: `duckdb_columns() WHERE ${own}`,
    },
    pg_attrdef: {
      columns: { oid: 'table_oid * 10000 + column_index', adrelid: 'table_oid', adnum: 'column_index', adbin: 'column_default' },
      from: `duckdb_columns() WHERE ${own} AND column_default IS NOT NULL AND column_default <> 'NULL'`,
    },
    pg_index: {
      columns: {
        ...{ indexrelid: 'oid', indrelid: 'table_oid', indisunique: 'is_unique', indisprimary: 'is_primary', indimmediate: 'true' },
        ...{ indisvalid: 'true', indisready: 'true', indislive: 'true', indkey: 'key', indnatts: 'len(key)', indnkeyatts: 'len(key)' },
        indoption: 'list_transform(key, k -> 0)',
      },
      from: `(SELECT ${constraintIndex} AS oid, table_oid, true AS is_unique, constraint_type = 'PRIMARY KEY' AS is_primary, list_transform(constraint_column_indexes, i -> i + 1) AS key FROM ${keys} UNION ALL SELECT index_oid, table_oid, is_unique, false, (SELECT list(c.column_index ORDER BY list_position(CAST(i.expressions AS VARCHAR[]), c.column_name)) FROM duckdb_columns() c WHERE c.table_oid = i.table_oid AND list_contains(CAST(i.expressions AS VARCHAR[]), c.column_name)) FROM duckdb_indexes() i WHERE ${own})`,
    },
    pg_constraint: {
      columns: {
        ...{ oid: '2000000000 + table_oid * 100 + constraint_index', conname: nameOf(catalog), connamespace: 'schema_oid' },
        ...{ contype: "CASE constraint_type WHEN 'PRIMARY KEY' THEN 'p' WHEN 'UNIQUE' THEN 'u' WHEN 'FOREIGN KEY' THEN 'f' ELSE 'c' END" },
        ...{
          convalidated: 'true',
          conrelid: 'table_oid',
          conislocal: 'true',
          connoinherit: 'true',
          confupdtype: "'a'",
          confdeltype: "'a'",
        },
        // Of a foreign key, the index of the key that it references.
        conindid: `CASE constraint_type WHEN 'FOREIGN KEY' THEN coalesce((SELECT any_value(${indexOf('p.')}) FROM duckdb_constraints() p WHERE ${isReferenced('p')} AND p.constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND list_sort(p.constraint_column_names) = list_sort(${referencedColumns})), 0) WHEN 'CHECK' THEN 0 ELSE ${constraintIndex} END`,
        confmatchtype: "'s'",
        confrelid: `coalesce((SELECT any_value(p.table_oid) FROM duckdb_tables() p WHERE ${isReferenced('p')}), 0)`,
        conkey: 'list_transform(constraint_column_indexes, i -> i + 1)',
        confkey: ofReferencedColumns('c.column_index'),
        conbin: 'expression',
      },
      from: `duckdb_constraints() k WHERE ${own} AND constraint_type <> 'NOT NULL'`,
    },
    pg_type: {
      columns: {
        ...{ oid: 'oid', typname: 'name', typnamespace: '11', typowner: '10', typlen: 'size', typcategory: 'category', typelem: 'element' },
        ...{ typarray: 'array_oid', typtype: "'b'", typisdefined: 'true', typdelim: "','", typtypmod: '-1', typispreferred: 'false' },
        // Drivers tell arrays by these two functions.
        ...{ typinput: "CASE category WHEN 'A' THEN 750 ELSE 0 END", typreceive: "CASE category WHEN 'A' THEN 2400 ELSE 0 END" },
        typbyval: 'size BETWEEN 1 AND 8',
      },
      from: `(VALUES ${types}) AS t(oid, name, size, category, element, array_oid)`,
    },
    pg_database: {
      columns: {
        ...{ oid: 'database_oid', datname: 'database_name', datdba: '10', encoding: '6', datallowconn: 'true', datconnlimit: '-1' },
        ...{ datcollate: "'C'", datctype: "'C'", datlocprovider: "'c'", dattablespace: '1663' },
      },
      from: `duckdb_databases() WHERE database_name = ${quoteString(catalog)}`,
    },
    pg_proc: {
      columns: {
        ...{ oid: 'id', proname: 'name', pronamespace: 'namespace', proowner: '10', prolang: '14', prokind: "'f'", provolatile: "'v'" },
        ...{ prosrc: 'source', pronargs: 'len(names)', proargnames: 'names', proretset: 'is_set', proparallel: "'u'", prorettype: '25' },
      },
      from: `(SELECT function_oid AS id, function_name AS name, (SELECT any_value(s.oid) FROM duckdb_schemas() s WHERE s.database_name = f.database_name AND s.schema_name = f.schema_name) AS namespace, macro_definition AS source, parameters AS names, function_type = 'table_macro' AS is_set FROM duckdb_functions() f WHERE NOT internal AND ${own} UNION ALL SELECT id, name, 11, NULL, NULL, false FROM (VALUES (750, 'array_in'), (2400, 'array_recv')) AS t(id, name))`,
    },
    pg_settings: {
      columns: {
        name: 'name',
        setting: 'setting',
        short_desc: 'about',
        reset_val: 'setting',
        boot_val: 'setting',
        vartype: 'type',
        context: "'internal'",
      },
      // What DuckDB has, and what Postgres compiles in: drivers ask for the size of their answers.
      from: `(SELECT name, value AS setting, description AS about, lower(input_type) AS type FROM duckdb_settings() UNION ALL SELECT *, NULL, 'string' FROM (VALUES ('max_index_keys', '32'), ('max_identifier_length', '63'), ('server_encoding', 'UTF8'), ('server_version_num', '150000'), ('standard_conforming_strings', 'on'), ('block_size', '8192')))`,
    },
    pg_am: {
      columns: { oid: 'oid', amname: 'name', amtype: 'kind' },
      from: "(VALUES (2, 'heap', 't'), (403, 'art', 'i')) AS t(oid, name, kind)",
    },
    pg_tablespace: { columns: { oid: '1663', spcname: "'pg_default'", spcowner: '10' }, from: '(SELECT 1)' },
    pg_collation: {
      columns: { oid: '100', collname: "'default'", collnamespace: '11', collowner: '10', collprovider: "'d'", collencoding: '-1' },
      from: '(SELECT 1)',
    },
    pg_language: { columns: { oid: '14', lanname: "'sql'", lanowner: '10', lanpltrusted: 'true' }, from: '(SELECT 1)' },
    pg_description: {
      columns: { objoid: 'oid', classoid: '1259', objsubid: 'part', description: 'comment' },
      from: `(SELECT table_oid AS oid, 0 AS part, comment FROM duckdb_tables() WHERE ${own} UNION ALL SELECT view_oid, 0, comment FROM duckdb_views() WHERE NOT internal AND ${own} UNION ALL SELECT table_oid, column_index, comment FROM duckdb_columns() WHERE ${own}) WHERE comment IS NOT NULL`,
    },
    pg_sequence: {
      columns: {
        ...{ seqrelid: 'sequence_oid', seqtypid: '20', seqstart: 'start_value', seqmin: 'min_value', seqmax: 'max_value' },
        ...{ seqincrement: 'increment_by', seqcycle: 'cycle', seqcache: '1' },
      },
      from: `duckdb_sequences() WHERE ${own}`,
    },
  }
}

/** The owner of everything, and those whom engine.auth names. */
function roles(users: readonly { readonly name: string }[]): Partial<Record<CatalogRelation, Rows>> {
  const names = ['daemonguard', ...users.map(({ name }) => name)]
  const rows = names.map((name, i) => `(${i === 0 ? 10 : firstRole + i}, ${quoteString(name)})`).join(', ')
  const from = `(VALUES ${rows}) AS t(id, name)`
  return {
    pg_roles: { columns: { oid: 'id', rolname: 'name', rolinherit: 'true', rolcanlogin: 'id <> 10', rolconnlimit: '-1' }, from },
    pg_user: { columns: { usesysid: 'id', usename: 'name' }, from },
  }
}

/** Postgres numbers what users make from here on. */
const firstRole = 16_384

const nothing: Readonly<Record<string, string>> = { i: '0', b: 'false', f: '0.0', a: 'NULL::BIGINT[]', t: 'NULL::VARCHAR[]' }

function view(name: CatalogRelation, rows: Rows): string {
  const columns = catalogColumns[name].split(' ').map((column) => {
    const [title = '', type = ''] = column.split(':')
    return `${rows.columns[title] ?? nothing[type] ?? 'NULL::VARCHAR'} AS ${title}`
  })
  return `CREATE OR REPLACE VIEW ${catalogSchema}.${name} AS SELECT ${columns.join(', ')} FROM ${rows.from}`
}

/** The statements that make the users known, to be run again when they are others. */
export function roleStatements(users: readonly { readonly name: string }[]): string[] {
  return Object.entries(roles(users)).map(([name, rows]) => view(name as CatalogRelation, rows))
}

/** The statements that make the catalog, to be run once in a new instance. The table of constraints' written names must be there. */
export function catalogStatements(catalog: string): string[] {
  const filled = { ...relations(catalog), ...roles([]) }
  const views = (Object.keys(catalogColumns) as CatalogRelation[]).map((name) =>
    view(name, filled[name] ?? { columns: {}, from: '(SELECT 1) WHERE false' }),
  )
  const information = Object.entries(informationViews).map(([name, prefix]) => {
    const of = (part: string) => (prefix === '' ? (part === 'catalog' ? 'catalog_name' : 'schema_name') : `${prefix}_${part}`)
    const condition = `${of('catalog')} = ${quoteString(catalog)} AND ${of('schema')} <> ${quoteString(ownSchema)}`
    return `CREATE VIEW ${informationSchema}.${quoteIdentifier(name)} AS SELECT * FROM system.information_schema.${name} WHERE ${condition}`
  })
  return [
    `CREATE SCHEMA ${catalogSchema}`,
    `CREATE SCHEMA ${informationSchema}`,
    ...typeMacros(catalogSchema),
    ...views,
    ...catalogMacros(catalogSchema),
    ...information,
  ]
}
