/**
 * ALTER TABLE … ADD/DROP CONSTRAINT: looks whether the rows that are there allow it, and says which don't; then rebuilds the table (and
 * those that reference it) with the new constraints, inside the transaction. Journaled with the statements that were run.
 */

import type { TableInfo } from './catalog.ts'
import { constraintNamed, createNames, forgetName, keepName, postgresNames, writtenNames } from './constraint-names.ts'
import { Rebuild } from './rebuild.ts'
import { orphansOf } from './references.ts'
import type { SchemaContext } from './schema-change.ts'
import { type ConstraintChange, sameName, type WrittenConstraint } from './sql/constraint.ts'
import type { SchemaStatement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { type Constraint, foreignKey, quotedList, readConstraints, readFamily, type TableShape } from './table-shape.ts'

/** Values that an error names. */
const namedValues = 5

export interface RebuiltTables {
  readonly tables: readonly { readonly schema: string; readonly name: string }[]
  readonly statements: readonly string[]
}

/** Undefined: there was nothing to do. */
export async function changeConstraint(
  context: SchemaContext,
  statement: SchemaStatement,
  change: ConstraintChange,
  info: TableInfo | undefined,
): Promise<RebuiltTables | undefined> {
  const { executor, catalog, transaction } = context
  const { connection } = executor
  if (info === undefined) {
    if (statement.tokens[2]?.text === 'if') return undefined
    throw new SqlError('42P01', `Table with name ${statement.name.at(-1)} does not exist`)
  }
  // The copy has the rows of this transaction's snapshot: newer ones would be lost.
  if (transaction.startSeq < context.lastSeq)
    throw new SqlError('40001', 'rows have changed since this transaction began', { hint: 'roll back and try again' })
  const { schema, name } = info.table
  const [shape, ...children] = (await readFamily(connection, catalog.name, schema, name)) as [TableShape, ...TableShape[]]
  const family = [shape, ...children]
  await refuseShadowed(context, family)
  const on = { schema, table: name }
  const written = await writtenNames(connection, catalog.name, on)
  const rebuild = new Rebuild(connection)
  transaction.schemaChanged = true

  if (change.action === 'drop') {
    const dropped = constraintNamed(change.name, name, shape.constraints, written)
    if (dropped === undefined) {
      if (change.ifExists) return undefined
      throw new SqlError('42704', `constraint "${change.name}" of table "${name}" does not exist`, { hint: namesHint(shape, written) })
    }
    refuseReferenced(shape, dropped, family)
    await rebuild.tables([without(shape, dropped), ...children])
    if (written.has(dropped.sql)) await rebuild.run(forgetName(on, dropped.sql))
  } else {
    if (change.name !== undefined && constraintNamed(change.name, name, shape.constraints, written) !== undefined)
      throw new SqlError('42710', `constraint "${change.name}" for relation "${name}" already exists`)
    const added = await checked(context, info, shape, family, change.constraint)
    if (shape.constraints.some(({ sql }) => sql === added.sql))
      throw new SqlError('42710', `"${name}" has this constraint already: ${added.sql}`, { hint: namesHint(shape, written) })
    await rebuild.tables([{ ...shape, constraints: [...shape.constraints, added] }, ...children])
    if (change.name !== undefined) {
      const now = (await readConstraints(connection, catalog.name, schema)).get(name) ?? []
      const definition = now.find(({ sql }) => !shape.constraints.some((old) => old.sql === sql))?.sql ?? added.sql
      await rebuild.run(createNames)
      await rebuild.run(keepName(on, change.name, definition))
    }
  }
  return { tables: family.map((table) => ({ schema: table.schema, name: table.name })), statements: rebuild.statements }
}

/** Columns of a primary key stay NOT NULL, as in Postgres. */
function without(shape: TableShape, dropped: Constraint): TableShape {
  const held = (name: string) => dropped.type === 'PRIMARY KEY' && dropped.columns.includes(name)
  return {
    ...shape,
    columns: shape.columns.map((column) => (held(column.name) ? { ...column, sql: `${column.sql} NOT NULL` } : column)),
    constraints: shape.constraints.filter((constraint) => constraint !== dropped),
  }
}

/** A temporary table of the same name would be taken for the one that is rebuilt. */
async function refuseShadowed({ executor, catalog, temporary }: SchemaContext, family: readonly TableShape[]): Promise<void> {
  if (!temporary) return
  const names = await catalog.temporaryNames(executor.connection)
  const shadowed = family.find(({ name }) => names.has(name.toLowerCase()))
  if (shadowed !== undefined)
    throw new SqlError('0A000', `there is a temporary object of the name ${shadowed.name}`, {
      hint: `DROP TABLE temp.${quoteIdentifier(shadowed.name)}`,
    })
}

function namesHint({ name, constraints }: TableShape, written: ReadonlyMap<string, string>): string {
  const postgres = postgresNames(name, constraints)
  const names = constraints.map(({ sql }, i) => written.get(sql) ?? postgres[i])
  return names.length === 0 ? `${name} has no constraints` : `${name} has ${names.join(', ')}`
}

/** A key that foreign keys reference stays. */
function refuseReferenced(shape: TableShape, dropped: Constraint, family: readonly TableShape[]): void {
  if (dropped.type !== 'PRIMARY KEY' && dropped.type !== 'UNIQUE') return
  const sameColumns = (columns: readonly string[] = []) =>
    columns.length === dropped.columns.length && columns.every((column, i) => column === dropped.columns[i])
  const others = shape.constraints.some(
    (other) => other !== dropped && (other.type === 'PRIMARY KEY' || other.type === 'UNIQUE') && sameColumns(other.columns),
  )
  const child = family.find(({ constraints }) =>
    constraints.some(({ parent, parentColumns }) => parent === shape.name && sameColumns(parentColumns)),
  )
  if (child === undefined || others) return
  throw new SqlError('2BP01', `a foreign key of ${child.name} references (${dropped.columns.join(', ')}) of ${shape.name}`, {
    hint: `drop that first: ALTER TABLE ${child.path} DROP CONSTRAINT …`,
  })
}

/** The constraint with the catalog's spelling of its columns. Throws where the rows that are there, or DuckDB, do not allow it. */
async function checked(
  context: SchemaContext,
  info: TableInfo,
  shape: TableShape,
  family: readonly TableShape[],
  constraint: WrittenConstraint,
): Promise<Constraint> {
  if (constraint.type === 'CHECK') return checkedExpression(context, shape, constraint)
  const columns = constraint.columns.map((column) => spelled(shape, column))
  if (new Set(columns).size < columns.length) throw new SqlError('42701', 'a column appears twice in the constraint')
  if (constraint.type === 'FOREIGN KEY') return checkedReference(context, info, shape, family, { ...constraint, columns })
  const { connection } = context.executor
  const list = quotedList(columns)
  if (constraint.type === 'PRIMARY KEY') {
    if (info.table.primaryKey.length > 0)
      throw new SqlError('42P16', `table "${shape.name}" has a primary key already`, { hint: `DROP CONSTRAINT ${shape.name}_pkey first` })
    const isNull = columns.map((column) => `${quoteIdentifier(column)} IS NULL`).join(' OR ')
    const [row] = await connection.all(`SELECT count(*) FROM ${shape.path} WHERE ${isNull}`)
    if (Number(row?.[0]) > 0)
      throw new SqlError('23502', `${row?.[0]} rows of ${shape.name} have NULL in (${columns.join(', ')})`, {
        hint: `SELECT * FROM ${shape.path} WHERE ${isNull}`,
      })
  }
  const notNull = columns.map((column) => `${quoteIdentifier(column)} IS NOT NULL`).join(' AND ')
  const twice = `SELECT ${list}, count(*) FROM ${shape.path} WHERE ${notNull} GROUP BY ${list} HAVING count(*) > 1`
  const values = await firstValues(context, twice, columns)
  if (values.count > 0)
    throw new SqlError(
      '23505',
      `could not create a unique index: ${values.count} values of (${columns.join(', ')}) in ${shape.name} are there more than once: ${values.text}`,
      {
        hint: `find them: ${twice}`,
      },
    )
  return { type: constraint.type, name: '', columns, sql: `${constraint.type} (${list})` }
}

async function checkedExpression(
  context: SchemaContext,
  shape: TableShape,
  { expression }: Extract<WrittenConstraint, { type: 'CHECK' }>,
): Promise<Constraint> {
  // NULL passes.
  const broken = `SELECT * FROM ${shape.path} WHERE NOT (${expression})`
  const [row] = await context.executor.connection.all(`SELECT count(*) FROM (${broken})`)
  if (Number(row?.[0]) > 0)
    throw new SqlError('23514', `check constraint is violated by ${row?.[0]} rows of ${shape.name}`, { hint: `find them: ${broken}` })
  return { type: 'CHECK', name: '', columns: [], sql: `CHECK (${expression})` }
}

async function checkedReference(
  context: SchemaContext,
  info: TableInfo,
  shape: TableShape,
  family: readonly TableShape[],
  constraint: Extract<WrittenConstraint, { type: 'FOREIGN KEY' }>,
): Promise<Constraint> {
  const { executor, catalog, searchPath } = context
  const { columns } = constraint
  const parent = await catalog.table(executor.connection, constraint.parent, searchPath, false)
  if (parent.temporary) throw new SqlError('42P16', 'constraints on permanent tables may reference only permanent tables')
  if (parent.table.schema !== shape.schema)
    throw new SqlError('0A000', `DuckDB has no foreign keys between schemas: ${shape.schema} and ${parent.table.schema}`, {
      hint: 'keep both tables in one schema',
    })
  if (parent.table.name !== shape.name && family.some(({ name }) => name === parent.table.name))
    throw new SqlError('0A000', `${parent.table.name} references ${shape.name} already: DuckDB has no foreign keys in a circle`, {
      hint: 'keep one direction, and check the other in the platform',
    })
  const keys = ((await readConstraints(executor.connection, catalog.name, shape.schema)).get(parent.table.name) ?? []).filter(
    ({ type }) => type === 'PRIMARY KEY' || type === 'UNIQUE',
  )
  const wanted = constraint.parentColumns?.map((column) => columnOf(parent, column))
  const key = keys.find((candidate) =>
    wanted === undefined
      ? candidate.type === 'PRIMARY KEY'
      : candidate.columns.length === wanted.length && candidate.columns.every((column) => wanted.includes(column)),
  )
  if (key === undefined) {
    const list = wanted?.join(', ') ?? '…'
    throw new SqlError('42830', `there is no primary key or unique constraint on (${list}) of ${parent.table.name}`, {
      hint: `ALTER TABLE ${parent.table.name} ADD PRIMARY KEY (${list})`,
    })
  }
  const parentColumns = wanted ?? key.columns
  if (parentColumns.length !== columns.length)
    throw new SqlError('42830', `the foreign key has ${columns.length} columns, the referenced key ${parentColumns.length}`)
  // DuckDB wants them in the order of the key.
  const ordered = key.columns.map((column) => columns[parentColumns.indexOf(column)] as string)
  for (const [i, column] of ordered.entries()) {
    const [own, other] = [typeOf(info, column), typeOf(parent, key.columns[i] ?? '')]
    if (own !== other)
      throw new SqlError(
        '42804',
        `${shape.name}.${column} is ${own}, ${parent.table.name}.${key.columns[i]} is ${other}: a foreign key wants the same type`,
        {
          hint: `ALTER TABLE ${shape.path} ALTER COLUMN ${quoteIdentifier(column)} TYPE ${other}`,
        },
      )
  }
  await refuseOrphans(context, shape, parent.table.name, ordered, key.columns)
  return { name: '', columns: ordered, ...foreignKey(shape.schema, ordered, parent.table.name, key.columns) }
}

/** 23503 that says how many rows have no parent, and which. */
async function refuseOrphans(
  context: SchemaContext,
  shape: TableShape,
  parent: string,
  columns: readonly string[],
  keys: readonly string[],
): Promise<void> {
  const from = orphansOf(shape.path, columns, `${quoteIdentifier(shape.schema)}.${quoteIdentifier(parent)}`, keys)
  const [row] = await context.executor.connection.all(`SELECT count(*) ${from}`)
  if (Number(row?.[0]) === 0) return
  const values = await firstValues(context, `SELECT DISTINCT ${quotedList(columns)} ${from}`, columns)
  throw new SqlError(
    '23503',
    `${row?.[0]} rows of ${shape.name} have a (${columns.join(', ')}) that is not in ${parent} (${keys.join(', ')}): ${values.text}`,
    { hint: `find them: SELECT * ${from}` },
  )
}

/** How many rows a query has, and the first of them as text. */
async function firstValues({ executor }: SchemaContext, sql: string, columns: readonly string[]): Promise<{ count: number; text: string }> {
  const list = columns.map((column) => `${quoteIdentifier(column)}::VARCHAR`)
  const value = list.length === 1 ? list[0] : `'(' || ${list.join(" || ', ' || ")} || ')'`
  const rows = await executor.connection.all(
    `SELECT ${value}, count(*) OVER () FROM (${sql}) AS found ORDER BY ${quotedList(columns)} LIMIT ${namedValues}`,
  )
  const count = Number(rows[0]?.[1] ?? 0)
  return { count, text: `${rows.map(([text]) => text).join(', ')}${count > rows.length ? ', …' : ''}` }
}

function spelled(shape: TableShape, column: string): string {
  const found = shape.columns.find(({ name }) => sameName(name, column))
  if (found === undefined) throw new SqlError('42703', `column "${column}" of ${shape.name} does not exist`)
  return found.name
}

function columnOf({ table }: TableInfo, column: string): string {
  const found = table.columns.find(({ name }) => sameName(name, column))
  if (found === undefined) throw new SqlError('42703', `column "${column}" of ${table.name} does not exist`)
  return found.name
}

function typeOf({ table }: TableInfo, column: string): string {
  return table.columns.find(({ name }) => name === column)?.sqlType ?? 'generated'
}
