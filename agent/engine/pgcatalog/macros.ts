/** Functions of Postgres' that clients call about the catalog, as macros beside its views. */

import type { ScalarKind } from '../../journal/types.ts'
import { arrayOidOf, catalogTypes, Oid, oidOf } from '../pgwire/types.ts'

/** DuckDB's name of a scalar type, as duckdb_columns() has it, with its kind where that is spelled otherwise. */
const scalarNames: Readonly<Record<string, ScalarKind>> = {
  ...Object.fromEntries(
    (
      [
        ...['BOOLEAN', 'TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT', 'UHUGEINT'],
        ...['BIGNUM', 'FLOAT', 'DOUBLE', 'VARCHAR', 'BLOB', 'BIT', 'UUID', 'DATE', 'TIME', 'TIME_NS', 'INTERVAL'],
        ...['TIMESTAMP', 'TIMESTAMP_S', 'TIMESTAMP_MS', 'TIMESTAMP_NS'],
      ] as ScalarKind[]
    ).map((kind) => [kind, kind]),
  ),
  'TIMESTAMP WITH TIME ZONE': 'TIMESTAMPTZ',
  'TIME WITH TIME ZONE': 'TIMETZ',
}

/** Names that psql prints, where they are not pg_type's. */
const printed: Readonly<Record<string, string>> = {
  ...{
    int2: 'smallint',
    int4: 'integer',
    int8: 'bigint',
    float4: 'real',
    float8: 'double precision',
    bool: 'boolean',
    varchar: 'character varying',
  },
  ...{ timestamp: 'timestamp without time zone', timestamptz: 'timestamp with time zone', varbit: 'bit varying', bpchar: 'character' },
  ...{ time: 'time without time zone', timetz: 'time with time zone' },
}

/** What the wire says of a DuckDB type, by its name. */
function typeOid(): string {
  const scalars = Object.entries(scalarNames).map(([name, kind]) => ({ name, oid: oidOf({ kind }) }))
  const whens = (column: string, array: boolean) =>
    [...scalars, { name: 'JSON', oid: Oid.text }]
      .map(({ name, oid }) => `WHEN ${column} = '${name}' THEN ${array ? arrayOidOf(oid) : oid}`)
      .join(' ')
  const element = "regexp_replace(given, '(\\[[0-9]*\\])+$', '')"
  const structured = (column: string) => `WHEN regexp_matches(${column}, '^(STRUCT|MAP|UNION)\\(') THEN ${Oid.json}`
  return (
    `CASE WHEN NOT ends_with(given, ']') THEN CASE ${whens('given', false)} WHEN starts_with(given, 'DECIMAL') THEN ${Oid.numeric} ${structured('given')} ELSE ${Oid.text} END ` +
    `ELSE CASE ${whens(element, true)} WHEN starts_with(${element}, 'DECIMAL') THEN ${arrayOidOf(Oid.numeric)} ${structured(element)} ELSE ${arrayOidOf(Oid.text)} END END`
  )
}

/** What the views call. */
export function typeMacros(schema: string): string[] {
  return create(schema, {
    '_type_oid(given)': typeOid(),
    '_type_modifier(given)': `CASE WHEN starts_with(given, 'DECIMAL(') THEN CAST(regexp_extract(given, '\\((\\d+),(\\d+)\\)', 1) AS INTEGER) * 65536 + CAST(regexp_extract(given, '\\((\\d+),(\\d+)\\)', 2) AS INTEGER) + 4 ELSE -1 END`,
  })
}

function create(schema: string, macros: Readonly<Record<string, string>>): string[] {
  return Object.entries(macros).map(([head, body]) => {
    const [, name, list = ''] = /^(\w+)\((.*)\)$/.exec(head) as RegExpExecArray
    const [needed = '', optional = ''] = list.split(/,? ?\[/)
    const parameters = needed.split(', ').filter(Boolean)
    const overloads = [parameters]
    // By position, as Postgres' are: DuckDB's own defaults go by name.
    for (const more of optional.replace(']', '').split(', ').filter(Boolean)) overloads.push([...(overloads.at(-1) as string[]), more])
    return `CREATE MACRO ${schema}.${name}${overloads.map((own) => `(${own.join(', ')}) AS ${body}`).join(', ')}`
  })
}

/** What calls the views. */
export function catalogMacros(schema: string): string[] {
  const names = catalogTypes()
    .filter(({ element }) => element === 0)
    .map(({ oid, name, array }) => ({ oid, array, text: printed[name] ?? name }))
  const typeNames = names.flatMap(({ oid, array, text }) => [
    `WHEN ${oid} THEN '${text}'`,
    ...(array === 0 ? [] : [`WHEN ${array} THEN '${text}[]'`]),
  ])
  const of = (view: string) => `${schema}.${view}`
  // Names that no argument has: DuckDB puts it where the parameter stands, and the inner name would win.
  const inSchemas = (columns: string, view: string, namespace: string) =>
    `(SELECT ${columns}, n.nspname AS dg_schema FROM ${of(view)} o JOIN ${of('pg_namespace')} n ON n.oid = o.${namespace}) AS dg`
  const classes = inSchemas('o.oid AS dg_oid, o.relname AS dg_name', 'pg_class', 'relnamespace')
  const functions = inSchemas('o.oid AS dg_oid, o.proname AS dg_name', 'pg_proc', 'pronamespace')
  const namespaces = `(SELECT oid AS dg_oid, nspname AS dg_name FROM ${of('pg_namespace')}) AS dg`
  const comments = `(SELECT objoid AS dg_oid, objsubid AS dg_nth, description AS dg_text FROM ${of('pg_description')}) AS dg`
  const bare = "replace(CAST(given AS VARCHAR), '\"', '')"
  const macros: Readonly<Record<string, string>> = {
    'format_type(given, modifier)': `CASE CAST(given AS BIGINT) WHEN ${Oid.numeric} THEN 'numeric' || CASE WHEN modifier > 4 THEN '(' || ((modifier - 4) // 65536) || ',' || ((modifier - 4) % 65536) || ')' ELSE '' END ${typeNames.join(' ')} WHEN 0 THEN '-' ELSE '???' END`,
    '_class_oid(given)': `(SELECT min(dg_oid) FROM ${classes} WHERE CAST(dg_oid AS VARCHAR) = CAST(given AS VARCHAR) OR (lower(dg_name) = lower(regexp_replace(${bare}, '^.*\\.', '')) AND (NOT contains(${bare}, '.') OR lower(dg_schema) = lower(regexp_extract(${bare}, '([^.]*)\\.[^.]*$', 1)))))`,
    'to_regclass(given)': `${schema}._class_oid(given)`,
    '_class_name(given)': `coalesce((SELECT any_value(dg_name) FROM ${classes} WHERE dg_oid = TRY_CAST(given AS BIGINT)), CAST(given AS VARCHAR))`,
    '_namespace_name(given)': `coalesce((SELECT any_value(dg_name) FROM ${namespaces} WHERE dg_oid = TRY_CAST(given AS BIGINT)), CAST(given AS VARCHAR))`,
    '_namespace_oid(given)': `(SELECT any_value(dg_oid) FROM ${namespaces} WHERE dg_name = given)`,
    '_function_oid(given)': `(SELECT any_value(dg_oid) FROM ${functions} WHERE dg_name = regexp_replace(given, '^.*\\.|\\(.*$', '', 'g'))`,
    '_typename_oid(given)': `(SELECT any_value(dg_oid) FROM (SELECT oid AS dg_oid, typname AS dg_name FROM ${of('pg_type')}) AS dg WHERE dg_name = given OR ${schema}.format_type(dg_oid, -1) = given)`,
    'pg_table_is_visible(given)': `(SELECT coalesce(bool_and(list_contains(current_schemas(false), dg_schema)), true) FROM ${classes} WHERE dg_oid = given)`,
    'pg_function_is_visible(given)': `(SELECT coalesce(bool_and(list_contains(current_schemas(false), dg_schema)), true) FROM ${functions} WHERE dg_oid = given)`,
    'pg_type_is_visible(given)': 'true',
    'pg_get_userbyid(given)': "'daemonguard'",
    'pg_get_expr(tree, relation, [pretty])': 'tree',
    'pg_get_indexdef(given, [nth, pretty])': `coalesce((SELECT any_value(regexp_replace(rtrim(sql, ';'), ' ON ([^(]+)\\(', ' ON \\1 USING art (')) FROM duckdb_indexes() WHERE index_oid = given), (SELECT any_value('CREATE UNIQUE INDEX ' || constraint_name || ' ON ' || table_name || ' USING art (' || array_to_string(constraint_column_names, ', ') || ')') FROM duckdb_constraints() WHERE 1000000000 + table_oid * 100 + constraint_index = given))`,
    'pg_get_constraintdef(given, [pretty])': `(SELECT any_value(CASE WHEN constraint_type = 'FOREIGN KEY' THEN 'FOREIGN KEY (' || array_to_string(constraint_column_names, ', ') || ') REFERENCES ' || referenced_table || '(' || array_to_string(referenced_column_names, ', ') || ')' ELSE constraint_text END) FROM duckdb_constraints() WHERE 2000000000 + table_oid * 100 + constraint_index = given)`,
    'pg_get_viewdef(given, [pretty])': `(SELECT any_value(regexp_replace(rtrim(sql, ';\n '), '^CREATE .*? AS ', ' ', 's') || ';') FROM duckdb_views() WHERE view_oid = TRY_CAST(given AS BIGINT))`,
    'pg_get_functiondef(given)': `(SELECT any_value('CREATE MACRO ' || function_name || '(' || array_to_string(parameters, ', ') || ') AS ' || CASE function_type WHEN 'table_macro' THEN 'TABLE ' ELSE '' END || macro_definition || chr(10)) FROM duckdb_functions() WHERE function_oid = given)`,
    'pg_get_function_result(given)': `(SELECT any_value(CASE function_type WHEN 'table_macro' THEN 'table' ELSE coalesce(return_type, 'any') END) FROM duckdb_functions() WHERE function_oid = given)`,
    'pg_get_function_arguments(given)':
      "(SELECT any_value(array_to_string(parameters, ', ')) FROM duckdb_functions() WHERE function_oid = given)",
    'pg_get_function_identity_arguments(given)':
      "(SELECT any_value(array_to_string(parameters, ', ')) FROM duckdb_functions() WHERE function_oid = given)",
    'pg_get_function_sqlbody(given)': 'NULL::VARCHAR',
    'pg_get_ruledef(given, [pretty])': 'NULL::VARCHAR',
    'pg_get_triggerdef(given, [pretty])': 'NULL::VARCHAR',
    'pg_get_partkeydef(given)': 'NULL::VARCHAR',
    'pg_get_statisticsobjdef_columns(given)': 'NULL::VARCHAR',
    'pg_partition_ancestors(given)': 'CAST(given AS BIGINT)',
    'pg_relation_is_publishable(given)': 'false',
    'pg_encoding_to_char(given)': "'UTF8'",
    'pg_char_to_encoding(given)': '6',
    'getdatabaseencoding()': "'UTF8'",
    'pg_table_size(given)': 'NULL::BIGINT',
    'pg_total_relation_size(given)': 'NULL::BIGINT',
    'pg_relation_size(given, [fork])': 'NULL::BIGINT',
    'pg_indexes_size(given)': 'NULL::BIGINT',
    'pg_database_size(given)':
      '(SELECT CAST(sum(block_size * total_blocks) AS BIGINT) FROM pragma_database_size() WHERE database_name = current_database())',
    'pg_tablespace_size(given)': 'NULL::BIGINT',
    'pg_tablespace_location(given)': "''",
    'obj_description(given, [of])': `(SELECT any_value(dg_text) FROM ${comments} WHERE dg_oid = given AND dg_nth = 0)`,
    'col_description(given, nth)': `(SELECT any_value(dg_text) FROM ${comments} WHERE dg_oid = given AND dg_nth = nth)`,
    'shobj_description(given, of)': 'NULL::VARCHAR',
    'has_database_privilege(a, b, [c])': 'true',
    'has_schema_privilege(a, b, [c])': 'true',
    'has_column_privilege(a, b, c, [d])': 'true',
    'quote_ident(given)': `CASE WHEN regexp_full_match(CAST(given AS VARCHAR), '[a-z_][a-z0-9_$]*') THEN CAST(given AS VARCHAR) ELSE '"' || replace(CAST(given AS VARCHAR), '"', '""') || '"' END`,
    'quote_literal(value)': `'''' || replace(CAST(value AS VARCHAR), '''', '''''') || ''''`,
    'array_lower(list, dimension)': 'CASE WHEN len(list) > 0 THEN 1 END',
    'array_upper(list, dimension)': 'CASE WHEN len(list) > 0 THEN len(list) END',
    'array_remove(list, given)': 'list_filter(list, x -> x IS DISTINCT FROM given)',
    'pg_statistics_obj_is_visible(given)': 'true',
    'pg_is_in_recovery()': 'false',
    // Locks of this kind are not here: none is held.
    'pg_advisory_unlock_all()': 'NULL::VARCHAR',
    'pg_encoding_max_length(given)': '4',
    // information_schema._pg_expandarray, by which pgjdbc lists the columns of keys.
    'pg_expandarray(given)': "unnest(list_transform(given, (item, i) -> {'x': item, 'n': i}))",
  }
  return Object.entries(macros).map(([head, body]) => {
    const [, name, list = ''] = /^(\w+)\((.*)\)$/.exec(head) as RegExpExecArray
    const [needed = '', optional = ''] = list.split(/,? ?\[/)
    const parameters = needed.split(', ').filter(Boolean)
    const overloads = [parameters]
    // By position, as Postgres' are: DuckDB's own defaults go by name.
    for (const more of optional.replace(']', '').split(', ').filter(Boolean)) overloads.push([...(overloads.at(-1) as string[]), more])
    return `CREATE MACRO ${schema}.${name}${overloads.map((own) => `(${own.join(', ')}) AS ${body}`).join(', ')}`
  })
}

/** Names by which clients call them, unqualified or in pg_catalog. */
export const macroNames: ReadonlySet<string> = new Set(
  catalogMacros('s')
    .map((text) => /^CREATE MACRO s\.(\w+)\(/.exec(text)?.[1] ?? '')
    .filter((name) => !name.startsWith('_')),
)
