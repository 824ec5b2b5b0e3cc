/** Random statements that change rows, in every shape that there is. */

import { type KnownColumn, type KnownSchema, type KnownTable, quote } from './known-schema.ts'
import { randomText } from './random-types.ts'
import type { Statement } from './steps.ts'

export function rowStatement(known: KnownSchema): string {
  const { random } = known
  const table = random.pick(known.tables)
  const { path, key } = table
  const columns = table.columns.filter((column) => !column.generated)
  const some = () => random.shuffle(columns).slice(0, random.int(1, columns.length))
  const rest = columns.filter((column) => !key.includes(column))
  const assign = (list: readonly KnownColumn[]) => list.map((column) => `${quote(column.name)} = ${known.value(column)}`).join(', ')
  const where = () => {
    const column = random.pick(random.chance(0.6) && key.length > 0 ? key : table.columns)
    const name = quote(column.name)
    return random.pick([
      `${name} = ${known.expression(column)}`,
      `${name} IS NOT DISTINCT FROM ${known.expression(column)}`,
      `random() < 0.4`,
      `${name} IN (SELECT ${name} FROM ${path} ORDER BY random() LIMIT 5)`,
      `hash(${name}) % 3 = 1`,
      `${name} IS NULL`,
      'true',
    ])
  }
  const returning = () => random.pick(['', '', ' RETURNING *', ` RETURNING ${quote(random.pick(table.columns).name)} AS back, 1`])
  const rows = (list: readonly KnownColumn[], count: number) =>
    Array.from({ length: count }, () => `(${list.map((column) => known.value(column)).join(', ')})`).join(', ')
  const into = (list: readonly KnownColumn[]) => `INTO ${path} (${list.map(({ name }) => quote(name)).join(', ')})`
  const insert = () => {
    const list = random.chance(0.5) ? columns : [...new Set([...key, ...some()])]
    return `${into(list)} VALUES ${rows(list, random.int(1, random.chance(0.1) ? 40 : 4))}`
  }
  const conflict = key.map(({ name }) => quote(name)).join(', ')
  const kept =
    rest.length === 0
      ? ''
      : random
          .shuffle(rest)
          .slice(0, random.int(1, rest.length))
          .map(({ name }) => `${quote(name)} = excluded.${quote(name)}`)
          .join(', ')
  const set = rest.length === 0 ? assign(columns) : assign(random.shuffle(rest).slice(0, random.int(1, rest.length)))
  const integerKey = key.length === 1 && key[0]?.sql === 'INTEGER'
  const id = integerKey ? quote(key[0]?.name ?? '') : ''
  const choices: (() => string)[] = [
    () => `INSERT ${insert()}${returning()}`,
    () => `INSERT ${insert()}${returning()}`,
    () => `INSERT ${insert()}`,
    () => `INSERT INTO ${path} DEFAULT VALUES${returning()}`,
    () => `INSERT ${insert()} ON CONFLICT DO NOTHING${returning()}`,
    () =>
      key.length === 0 || kept === ''
        ? `INSERT ${insert()}`
        : `INSERT ${insert()} ON CONFLICT (${conflict}) DO UPDATE SET ${kept}${returning()}`,
    () => `INSERT OR ${random.pick(['REPLACE', 'IGNORE'])} ${insert()}${returning()}`,
    () =>
      integerKey
        ? `INSERT INTO ${path} (${id}) SELECT i FROM range(${random.int(40, 60)}, ${random.chance(0.05) ? random.int(2_000, 9_000) : random.int(60, 90)}) r(i)${random.chance(0.5) ? ' ON CONFLICT DO NOTHING' : ''}`
        : `INSERT ${insert()}`,
    () =>
      (integerKey
        ? `INSERT INTO ${path} SELECT * REPLACE (${id} + ${random.int(1, 200)} AS ${id}) FROM ${path}`
        : `INSERT ${insert()}`
      ).replace('SELECT *', table.columns.some(({ generated }) => generated) ? 'SELECT * EXCLUDE (g)' : 'SELECT *'),
    () => `UPDATE ${path} SET ${set} WHERE ${where()}${returning()}`,
    () => `UPDATE ${path} SET ${set} WHERE ${where()}`,
    () => `UPDATE ${path} AS z SET ${set}${random.chance(0.5) ? '' : ` WHERE ${where()}`}`,
    () =>
      integerKey
        ? `UPDATE ${path} SET ${id} = ${id} + ${random.int(100, 10_000)} WHERE ${where()}${returning()}`
        : `UPDATE ${path} SET ${set}`,
    () => `UPDATE ${path} SET ${assign(some())} WHERE ${where()}`,
    () =>
      integerKey && rest.length > 0
        ? `UPDATE ${path} AS a SET ${assign([random.pick(rest)])} FROM (SELECT i FROM range(1, 20) r(i)) AS b WHERE a.${id} = b.i${returning()}`
        : `UPDATE ${path} SET ${set}`,
    () =>
      integerKey && rest.length > 0
        ? `WITH few AS (SELECT ${id} AS k FROM ${path} ORDER BY random() LIMIT 4) UPDATE ${path} SET ${assign([random.pick(rest)])} WHERE ${id} IN (SELECT k FROM few)${returning()}`
        : `DELETE FROM ${path} WHERE ${where()}`,
    // A join that chooses anew each time it is evaluated, and what SET can say beside `column = value`.
    () => {
      if (!integerKey || rest.length === 0) return `UPDATE ${path} SET ${set}`
      const [one, two] = random.shuffle(rest) as [KnownColumn, KnownColumn | undefined]
      const changes = [
        `${id} = a.${id} + ${random.int(100, 10_000)}`,
        `${quote(one.name)} = DEFAULT`,
        two === undefined
          ? `(${quote(one.name)}) = (${known.value(one)})`
          : `(${quote(one.name)}, ${quote(two.name)}) = (${known.value(one)}, DEFAULT)`,
      ]
      return `UPDATE ${path} AS a SET ${random.pick(changes)} FROM range(1, 20) b(i) WHERE a.${id} = b.i AND random() < 0.7${returning()}`
    },
    () => `DELETE FROM ${path} WHERE ${where()}${returning()}`,
    () => `DELETE FROM ${path} WHERE random() < 0.3${returning()}`,
    () =>
      integerKey
        ? `DELETE FROM ${path} USING (SELECT i FROM range(1, 8) r(i)) AS b WHERE ${path}.${id} = b.i`
        : `DELETE FROM ${path} WHERE ${where()}`,
    () => (random.chance(0.2) ? `TRUNCATE ${path}` : `DELETE FROM ${path} WHERE ${where()}`),
    () => merge(known, table),
    () => merge(known, table),
    () =>
      random.chance(0.5)
        ? `INSERT INTO ${path} BY NAME SELECT * EXCLUDE (g) FROM ${path} LIMIT 2`
        : `INSERT INTO ${path} FROM ${path} LIMIT 1`,
    // A swap, and a shift of keys: they pass through states that the constraints forbid.
    () =>
      integerKey ? `UPDATE ${path} SET ${id} = CASE ${id} WHEN 1 THEN 2 ELSE 1 END WHERE ${id} IN (1, 2)` : `UPDATE ${path} SET ${set}`,
    () => (integerKey ? `UPDATE ${path} SET ${id} = ${id} + 1 WHERE ${id} < 40` : `UPDATE ${path} SET ${set}`),
    () => "SELECT nextval('main.seq')",
    () => "SELECT nextval('main.seq') FROM range(3)",
  ]
  return random.pick(choices)()
}

/** INSERT of bound parameters: the write buffer's way, where it can. */
export function boundInsert(known: KnownSchema): Omit<Statement, 'on'> {
  const { random } = known
  const table = random.pick(known.tables)
  const { path, key } = table
  const columns = table.columns.filter(({ generated }) => !generated)
  const values = columns.map((column) => {
    const numeric = /^(TINYINT|SMALLINT|INTEGER|BIGINT|DOUBLE|DECIMAL)/.test(column.sql)
    if (!key.includes(column) && random.chance(0.15)) return null
    if (numeric) return String(random.int(0, 99))
    return column.sql === 'VARCHAR'
      ? randomText(random)
      : column.sql === 'BOOLEAN'
        ? 'true'
        : /^(DATE|TIMESTAMP)/.test(column.sql)
          ? '2026-11-23 00:00:00'
          : null
  })
  const sql = `INSERT INTO ${path} (${columns.map(({ name }) => quote(name)).join(', ')}) VALUES (${columns.map((_, i) => `$${i + 1}`).join(', ')})`
  return { sql, values }
}

type Copied = string | number | bigint | null

/** COPY … FROM STDIN in text, CSV or binary, of the columns whose form is plain in all of them; undefined: the table has none. */
export function copyIn(known: KnownSchema): Omit<Statement, 'on'> | undefined {
  const { random } = known
  const { path, columns } = random.pick(known.tables)
  const list = columns.filter(({ generated, sql }) => !generated && ['INTEGER', 'VARCHAR', 'BIGINT', 'DOUBLE', 'BLOB'].includes(sql))
  if (list.length === 0) return undefined
  const rows = Array.from({ length: random.int(1, 50) }, () =>
    list.map(({ sql }): Copied => {
      if (random.chance(0.15)) return null
      return sql === 'VARCHAR' ? randomText(random) : sql === 'BLOB' ? '\\x00ff27' : random.int(1, 100_000)
    }),
  )
  const format = random.pick(['text', 'csv', 'binary'])
  const header = format === 'csv' && random.chance(0.5)
  const head = `COPY ${path} (${list.map(({ name }) => quote(name)).join(', ')}) FROM STDIN`
  if (format === 'binary') return { sql: `${head} WITH (FORMAT binary)`, data: binaryCopy(list, rows) }
  const lines = rows.map((row) => (format === 'csv' ? row.map(csvField).join(',') : row.map(textField).join('\t')))
  return {
    sql: format === 'csv' ? `${head} WITH (FORMAT csv${header ? ', HEADER' : ''})` : head,
    data: `${header ? 'header\n' : ''}${lines.join('\n')}\n`,
  }
}

function textField(value: Copied): string {
  if (value === null) return '\\N'
  return String(value).replaceAll('\\', '\\\\').replaceAll('\t', '\\t').replaceAll('\n', '\\n').replaceAll('\r', '\\r')
}

function csvField(value: Copied): string {
  return value === null ? '' : `"${String(value).replaceAll('"', '""')}"`
}

function binaryCopy(columns: readonly KnownColumn[], rows: readonly (readonly Copied[])[]): Buffer {
  const field = (value: Copied, sql: string): Buffer => {
    if (value === null) return Buffer.from([255, 255, 255, 255])
    const bytes = Buffer.alloc(sql === 'INTEGER' ? 4 : 8)
    if (sql === 'INTEGER') bytes.writeInt32BE(Number(value))
    else if (sql === 'BIGINT') bytes.writeBigInt64BE(BigInt(value))
    else if (sql === 'DOUBLE') bytes.writeDoubleBE(Number(value))
    const content = sql === 'VARCHAR' ? Buffer.from(String(value)) : sql === 'BLOB' ? Buffer.from([0, 255, 39]) : bytes
    const length = Buffer.alloc(4)
    length.writeInt32BE(content.length)
    return Buffer.concat([length, content])
  }
  const count = Buffer.alloc(2)
  count.writeInt16BE(columns.length)
  const head = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
  const body = rows.map((row) => Buffer.concat([count, ...row.map((value, i) => field(value, columns[i]?.sql ?? ''))]))
  return Buffer.concat([head, ...body, Buffer.from([255, 255])])
}

/** MERGE with a few rows that are there, and a few that are not. */
function merge(known: KnownSchema, { path, columns, key }: KnownTable): string {
  const { random } = known
  const own = columns.filter(({ generated }) => !generated)
  const names = own.map(({ name }) => quote(name))
  const on = (key.length > 0 ? key : own.slice(0, 1)).map(({ name }) => `t.${quote(name)} = s.${quote(name)}`).join(' AND ')
  const source = random.pick([
    `(SELECT ${own.map((column) => `${known.expression(column)} AS ${quote(column.name)}`).join(', ')})`,
    `(SELECT * FROM ${path} LIMIT 5)`,
  ])
  const rest = own.filter((column) => !key.includes(column))
  const column = rest.length === 0 ? undefined : random.pick(rest)
  const matched = random.pick([
    ' WHEN MATCHED THEN DELETE',
    column === undefined ? '' : ` WHEN MATCHED AND random() < 0.7 THEN UPDATE SET ${quote(column.name)} = s.${quote(column.name)}`,
    ' WHEN MATCHED THEN UPDATE',
    ' WHEN MATCHED THEN UPDATE BY NAME',
    ' WHEN MATCHED THEN DO NOTHING',
    '',
  ])
  const unmatched = random.pick([' WHEN NOT MATCHED BY SOURCE AND random() < 0.2 THEN DELETE', '', ''])
  const returning = random.pick(['', '', ' RETURNING merge_action, *'])
  const values = names.map((name) => `s.${name}`).join(', ')
  return `MERGE INTO ${path} AS t USING ${source} AS s ON ${on}${matched} WHEN NOT MATCHED THEN INSERT ${random.chance(0.3) ? 'BY NAME' : `(${names.join(', ')}) VALUES (${values})`}${unmatched}${returning}`
}
