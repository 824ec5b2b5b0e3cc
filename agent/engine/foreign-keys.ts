/**
 * What a foreign key references, by the names that the table and its columns have: DuckDB keeps them as they were written (`REFERENCES PAR (ID)`), in capitals or not.
 * SQL expressions over a row `k` of duckdb_constraints().
 */

/** A name as DuckDB compares it: it folds the case of ASCII letters alone. */
export const folded = (name: string): string => `translate(${name}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')`

const sameSchema = (row: string) => `${row}.database_name = k.database_name AND ${row}.schema_name = k.schema_name`
const written = `list_transform(k.referenced_column_names, name -> ${folded('name')})`

/** `row`: one of duckdb_tables(), duckdb_columns() or duckdb_constraints(); whether it is, or is of, the referenced table. */
export const isReferenced = (row: string): string =>
  `${sameSchema(row)} AND ${folded(`${row}.table_name`)} = ${folded('k.referenced_table')}`

export const referencedTable = `(SELECT any_value(p.table_name) FROM duckdb_tables() p WHERE ${isReferenced('p')})`

/** Something of each referenced column `c` of duckdb_columns(), in the order of the foreign key. */
export const ofReferencedColumns = (what: string): string =>
  `(SELECT list(${what} ORDER BY list_position(${written}, ${folded('c.column_name')})) FROM duckdb_columns() c WHERE ${isReferenced('c')} AND list_contains(${written}, ${folded('c.column_name')}))`

export const referencedColumns = ofReferencedColumns('c.column_name')
