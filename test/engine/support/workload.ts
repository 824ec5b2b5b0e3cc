/**
 * Random workloads over every shape of statement that changes data or schema, from two clients, in transactions and without. What fails may fail:
 * the point is that whatever the database is afterwards, a replay of the journal gives the same.
 */

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type pg from 'pg'
import copyStreams from 'pg-copy-streams'
import { rowsOf } from '../../support/engine.ts'
import type { Random } from '../../support/random.ts'
import { keys, type RandomType, randomText, randomType } from './random-types.ts'

interface Column {
  name: string
  sql: string
  /** undefined: a type that this workload did not make; NULL is all it can write there. */
  type: RandomType | undefined
  generated: boolean
}

interface Table {
  /** As SQL. */
  path: string
  columns: Column[]
  key: Column[]
}

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`

export class Workload {
  readonly log: string[] = []
  /** SQLSTATEs of what failed, with how often. */
  readonly failures = new Map<string, number>()
  #random: Random
  #clients: { client: pg.Client; open: boolean }[]
  /** Has changed the schema in its open transaction: nobody else can write. */
  #alone: { client: pg.Client; open: boolean } | undefined
  #types = new Map<string, RandomType>()
  #tables: Table[] = []
  #schemas = ['main']
  #names = 0

  constructor(random: Random, clients: readonly pg.Client[]) {
    this.#random = random
    this.#clients = clients.map((client) => ({ client, open: false }))
  }

  async run(steps: number): Promise<void> {
    const first = this.#clients[0] as { client: pg.Client; open: boolean }
    if (this.#names === 0)
      await this.#run(first, "CREATE SEQUENCE main.seq; CREATE TYPE main.mood AS ENUM ('glad', 'sad', 'ñ''x'); CREATE SCHEMA other")
    await this.#schema(() => this.#createTable())
    for (let i = 0; i < steps; i++) await this.#step()
    for (const one of this.#clients) if (one.open) await this.#end(one)
  }

  async #step(): Promise<void> {
    const random = this.#random
    const one = this.#alone ?? random.pick(this.#clients)
    if (!one.open && random.chance(0.12)) {
      one.open = await this.#run(one, 'BEGIN')
      return
    }
    if (one.open && random.chance(this.#alone === undefined ? 0.25 : 0.5)) return this.#end(one)
    // A schema change would wait for the other client's transaction.
    if (random.chance(0.3)) {
      if (this.#clients.every((other) => other === one || !other.open)) await this.#schema(() => this.#schemaStatement(), one)
      return
    }
    if (this.#tables.length === 0) return
    if (random.chance(0.08)) return this.#copy(one)
    if (random.chance(0.08)) return this.#bound(one)
    const text = random.chance(0.1) ? `${this.#rowStatement()}; ${this.#rowStatement()}` : this.#rowStatement()
    await this.#run(one, text)
  }

  async #end(one: { client: pg.Client; open: boolean }): Promise<void> {
    one.open = false
    this.#alone = undefined
    await this.#run(one, this.#random.chance(0.7) ? 'COMMIT' : 'ROLLBACK')
    await this.#learn()
  }

  async #run(
    one: { client: pg.Client; open: boolean },
    text: string,
    work = () => one.client.query(text) as Promise<unknown>,
  ): Promise<boolean> {
    try {
      await work()
      this.log.push(text)
      return true
    } catch (error) {
      const code = (error as { code?: string }).code ?? 'none'
      this.failures.set(code, (this.failures.get(code) ?? 0) + 1)
      this.log.push(`-- ${code} ${(error as Error).message.slice(0, 160).replaceAll('\n', ' ')}\n${text}`)
      if (code === 'none' || code.startsWith('XX') || code.startsWith('08'))
        throw new Error(`${text}\nfailed: ${String(error)}`, { cause: error })
      if (one.open) {
        one.open = false
        if (this.#alone === one) this.#alone = undefined
        await one.client.query('ROLLBACK')
      }
      return false
    }
  }

  async #schema(make: () => string | undefined, one = this.#clients[0] as { client: pg.Client; open: boolean }): Promise<void> {
    const text = make()
    if (text === undefined) return
    const path = this.#random.pick(this.#schemas)
    if (this.#random.chance(0.2))
      await this.#run(one, `SET search_path = ${quote(path)}; SET TimeZone = '${this.#random.pick(['UTC', 'Asia/Tokyo'])}'`)
    await this.#run(one, text)
    this.#alone = one.open ? one : undefined
    await this.#learn()
  }

  /** Reads what is there now, as both clients see it that have no transaction open. */
  async #learn(): Promise<void> {
    const client = (this.#clients.find((one) => !one.open) ?? this.#clients[0])?.client as pg.Client
    const columns = await rowsOf(
      client,
      `SELECT schema_name, table_name, column_name, data_type, (SELECT t.sql FROM duckdb_tables() t WHERE t.database_name = c.database_name AND t.table_oid = c.table_oid) AS sql
       FROM duckdb_columns() c WHERE database_name = current_database() AND schema_name <> 'daemonguard' AND NOT internal ORDER BY table_oid, column_index`,
    )
    const constraints = await rowsOf(
      client,
      "SELECT schema_name, table_name, unnest(constraint_column_names) FROM duckdb_constraints() WHERE database_name = current_database() AND constraint_type = 'PRIMARY KEY'",
    )
    const tables = new Map<string, Table>()
    for (const [schema, table, name, sql, text] of columns as string[][]) {
      if (text === null) continue
      const path = `${quote(schema as string)}.${quote(table as string)}`
      const entry = tables.get(path) ?? { path, columns: [], key: [] }
      tables.set(path, entry)
      const generated = new RegExp(`[(, ]"?${name}"? [A-Z]+ GENERATED ALWAYS`).test(text as string)
      const column = { name: name as string, sql: sql as string, type: this.#types.get(sql as string), generated }
      entry.columns.push(column)
      if (constraints.some(([s, t, c]) => s === schema && t === table && c === name)) entry.key.push(column)
    }
    this.#tables = [...tables.values()]
    const schemas = await rowsOf(
      client,
      "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database() AND NOT internal AND schema_name <> 'daemonguard'",
    )
    this.#schemas = ['main', ...schemas.map(([name]) => name as string).filter((name) => name !== 'main')]
  }

  #name(kind: string): string {
    const name = `${kind}${this.#names++ % 40}`
    return this.#random.chance(0.1) ? quote(`${name} ä"x`) : name
  }

  #type(type: RandomType = randomType(this.#random)): RandomType {
    this.#types.set(type.sql, type)
    return type
  }

  #value(column: Column): string {
    if (column.type === undefined || this.#random.chance(0.1)) return this.#random.chance(0.2) ? 'DEFAULT' : 'NULL'
    // Few values for a key, so that statements meet.
    if (column.sql === 'INTEGER' && this.#random.chance(0.8)) return String(this.#random.int(1, 30))
    return column.type.value(this.#random)
  }

  #expression(column: Column): string {
    const value = this.#value(column)
    return value === 'DEFAULT' ? 'NULL' : value
  }

  #createTable(): string {
    const random = this.#random
    const columns: string[] = []
    const keyed = random.chance(0.85)
    const composite = keyed && random.chance(0.2)
    if (keyed) columns.push(`id ${random.chance(0.6) ? 'INTEGER' : this.#type(random.pick(keys)).sql}${composite ? '' : ' PRIMARY KEY'}`)
    this.#type(keys[2] as RandomType)
    if (composite) columns.push(`id2 ${this.#type(random.pick(keys)).sql}`)
    for (let i = random.int(1, 5); i > 0; i--) columns.push(this.#column(`c${i}`))
    if (random.chance(0.3)) columns.push('stamp TIMESTAMP DEFAULT now()')
    if (random.chance(0.3)) columns.push('r DOUBLE DEFAULT random()')
    if (random.chance(0.2)) columns.push('u UUID DEFAULT uuid()')
    if (random.chance(0.3)) columns.push("n BIGINT DEFAULT nextval('main.seq')")
    if (random.chance(0.2)) columns.push('m main.mood')
    if (random.chance(0.2)) columns.push('x INTEGER UNIQUE')
    if (random.chance(0.2)) columns.push('y INTEGER CHECK (y < 1000)', 'g INTEGER GENERATED ALWAYS AS (y * 2)')
    const parent = this.#tables.find(({ key }) => key.length === 1 && key[0]?.sql === 'INTEGER')
    if (parent !== undefined && random.chance(0.4))
      columns.push(`parent INTEGER REFERENCES ${parent.path} (${quote(parent.key[0]?.name ?? '')})`)
    if (composite) columns.push('PRIMARY KEY (id, id2)')
    return `CREATE ${random.chance(0.1) ? 'OR REPLACE ' : ''}TABLE ${random.chance(0.1) ? 'IF NOT EXISTS ' : ''}${this.#place()}${this.#name('t')} (${columns.join(', ')})`.replace(
      'OR REPLACE TABLE IF NOT EXISTS',
      'TABLE IF NOT EXISTS',
    )
  }

  #column(name: string): string {
    const type = this.#type()
    const random = this.#random
    return `${name} ${type.sql}${random.chance(0.2) ? ` DEFAULT ${type.value(random)}` : ''}${random.chance(0.05) ? ' NOT NULL' : ''}`
  }

  #place(): string {
    return this.#random.chance(0.4) ? `${quote(this.#random.pick(this.#schemas))}.` : ''
  }

  #schemaStatement(): string | undefined {
    const random = this.#random
    const table = this.#tables.length === 0 ? undefined : random.pick(this.#tables)
    const column = table === undefined ? undefined : random.pick(table.columns)
    const name = column === undefined ? '' : quote(column.name)
    const onTable = (text: (table: Table) => string | undefined) => (table === undefined ? undefined : text(table))
    const choices: (() => string | undefined)[] = [
      () => this.#createTable(),
      () => this.#createTable(),
      () => this.#createTable(),
      () =>
        onTable(
          ({ path }) =>
            `CREATE ${random.chance(0.2) ? 'OR REPLACE ' : ''}TABLE ${this.#place()}${this.#name('t')} AS SELECT *, random() AS rnd, now() AS at2 FROM ${path}`,
        ),
      () => onTable(({ path }) => `ALTER TABLE ${path} ADD COLUMN ${this.#column(this.#name('a'))}`),
      () =>
        onTable(
          ({ path }) =>
            `ALTER TABLE ${path} ADD COLUMN ${this.#name('a')} ${random.pick(['TIMESTAMP DEFAULT now()', 'DOUBLE DEFAULT random()', "VARCHAR DEFAULT upper('x')", 'DATE DEFAULT CURRENT_DATE', "BIGINT DEFAULT nextval('main.seq')"])}`,
        ),
      () => onTable(({ path }) => `ALTER TABLE ${path} DROP COLUMN ${name}`),
      () => onTable(({ path }) => `ALTER TABLE ${path} RENAME COLUMN ${name} TO ${this.#name('b')}`),
      () => onTable(({ path }) => `ALTER TABLE ${path} RENAME TO ${this.#name('t')}`),
      () => onTable(({ path }) => `ALTER TABLE ${path} ALTER COLUMN ${name} TYPE VARCHAR`),
      () => onTable(({ path }) => `ALTER TABLE ${path} ALTER ${name} SET DATA TYPE DOUBLE USING random()`),
      () => onTable(({ path }) => `ALTER TABLE ${path} ALTER COLUMN ${name} SET DEFAULT NULL`),
      () => onTable(({ path }) => `ALTER TABLE ${path} ALTER COLUMN ${name} DROP NOT NULL`),
      () => onTable(({ path }) => `CREATE ${random.chance(0.2) ? 'UNIQUE ' : ''}INDEX ${this.#name('i')} ON ${path} (${name})`),
      () => `DROP INDEX IF EXISTS ${this.#place()}${this.#name('i')}`,
      () =>
        onTable(
          ({ path }) => `CREATE ${random.chance(0.5) ? 'OR REPLACE ' : ''}VIEW ${this.#place()}${this.#name('v')} AS SELECT * FROM ${path}`,
        ),
      () => `DROP VIEW IF EXISTS ${this.#place()}${this.#name('v')}`,
      () => `CREATE SEQUENCE IF NOT EXISTS main.seq START ${random.int(1, 50)}`,
      () =>
        `CREATE SEQUENCE ${this.#place()}${this.#name('s')} INCREMENT ${random.pick([1, 3, -2])} ${random.chance(0.3) ? 'MINVALUE -5 MAXVALUE 5 START 1 CYCLE' : ''}`,
      () => `DROP SEQUENCE IF EXISTS ${this.#place()}${this.#name('s')}`,
      () =>
        onTable(
          ({ path }) =>
            `CREATE TYPE ${this.#place()}${this.#name('e')} AS ENUM (SELECT DISTINCT ${name}::VARCHAR FROM ${path} WHERE ${name} IS NOT NULL)`,
        ),
      () => `CREATE SCHEMA ${this.#name('schema')}`,
      () => `CREATE OR REPLACE MACRO ${this.#place()}${this.#name('m')}(a, b := 2) AS a + b`,
      () => onTable(({ path }) => `COMMENT ON TABLE ${path} IS 'it''s ${random.int(1, 9)}'`),
      () => onTable(({ path }) => `COMMENT ON COLUMN ${path}.${name} IS 'a column'`),
      () => onTable(({ path }) => (random.chance(0.3) ? `DROP TABLE ${path}` : undefined)),
      () => (random.chance(0.2) ? `DROP SCHEMA ${quote(random.pick(this.#schemas))} CASCADE` : undefined),
      () => onTable(({ path }) => `CREATE OR REPLACE TEMP TABLE tmp AS SELECT * FROM ${path}`),
    ]
    return random.pick(choices)()
  }

  #rowStatement(): string {
    const random = this.#random
    const table = random.pick(this.#tables)
    const { path, key } = table
    const columns = table.columns.filter((column) => !column.generated)
    const some = () => random.shuffle(columns).slice(0, random.int(1, columns.length))
    const rest = columns.filter((column) => !key.includes(column))
    const assign = (list: readonly Column[]) => list.map((column) => `${quote(column.name)} = ${this.#value(column)}`).join(', ')
    const where = () => {
      const column = random.pick(random.chance(0.6) && key.length > 0 ? key : table.columns)
      const name = quote(column.name)
      return random.pick([
        `${name} = ${this.#expression(column)}`,
        `${name} IS NOT DISTINCT FROM ${this.#expression(column)}`,
        `random() < 0.4`,
        `${name} IN (SELECT ${name} FROM ${path} ORDER BY random() LIMIT 5)`,
        `hash(${name}) % 3 = 1`,
        `${name} IS NULL`,
        'true',
      ])
    }
    const returning = () => random.pick(['', '', ' RETURNING *', ` RETURNING ${quote(random.pick(table.columns).name)} AS back, 1`])
    const rows = (list: readonly Column[], count: number) =>
      Array.from({ length: count }, () => `(${list.map((column) => this.#value(column)).join(', ')})`).join(', ')
    const into = (list: readonly Column[]) => `INTO ${path} (${list.map(({ name }) => quote(name)).join(', ')})`
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
          ? `INSERT INTO ${path} (${id}) SELECT i FROM range(${random.int(40, 60)}, ${random.int(60, 90)}) r(i)${random.chance(0.5) ? ' ON CONFLICT DO NOTHING' : ''}`
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
          ? `UPDATE ${path} AS a SET ${assign([random.pick(rest)])} FROM (SELECT i FROM range(1, 20) r(i)) AS b WHERE a.${id} = b.i`
          : `UPDATE ${path} SET ${set}`,
      () =>
        integerKey && rest.length > 0
          ? `WITH few AS (SELECT ${id} AS k FROM ${path} ORDER BY random() LIMIT 4) UPDATE ${path} SET ${assign([random.pick(rest)])} WHERE ${id} IN (SELECT k FROM few)${returning()}`
          : `DELETE FROM ${path} WHERE ${where()}`,
      () => `DELETE FROM ${path} WHERE ${where()}${returning()}`,
      () => `DELETE FROM ${path} WHERE random() < 0.3${returning()}`,
      () =>
        integerKey
          ? `DELETE FROM ${path} USING (SELECT i FROM range(1, 8) r(i)) AS b WHERE ${path}.${id} = b.i`
          : `DELETE FROM ${path} WHERE ${where()}`,
      () => (random.chance(0.2) ? `TRUNCATE ${path}` : `DELETE FROM ${path} WHERE ${where()}`),
      () => "SELECT nextval('main.seq')",
      () => "SELECT nextval('main.seq') FROM range(3)",
    ]
    return random.pick(choices)()
  }

  /** INSERT of bound parameters: the write buffer's way, where it can. */
  async #bound(one: { client: pg.Client; open: boolean }): Promise<void> {
    const random = this.#random
    const { path, columns, key } = random.pick(this.#tables)
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
    const text = `INSERT INTO ${path} (${columns.map(({ name }) => quote(name)).join(', ')}) VALUES (${columns.map((_, i) => `$${i + 1}`).join(', ')})`
    await this.#run(one, `${text} -- ${JSON.stringify(values)}`, () => one.client.query(text, values))
  }

  async #copy(one: { client: pg.Client; open: boolean }): Promise<void> {
    const random = this.#random
    const { path, columns } = random.pick(this.#tables)
    const list = columns.filter(({ generated, sql }) => !generated && ['INTEGER', 'VARCHAR', 'BIGINT', 'DOUBLE', 'BLOB'].includes(sql))
    if (list.length === 0) return
    const escaped = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('\t', '\\t').replaceAll('\n', '\\n').replaceAll('\r', '\\r')
    const field = ({ sql }: Column) =>
      sql === 'VARCHAR'
        ? escaped(randomText(random))
        : sql === 'BLOB'
          ? '\\\\x00ff27'
          : random.chance(0.2)
            ? '\\N'
            : String(random.int(1, 100_000))
    const data = Array.from({ length: random.int(1, 50) }, () => `${list.map(field).join('\t')}\n`).join('')
    const text = `COPY ${path} (${list.map(({ name }) => quote(name)).join(', ')}) FROM STDIN`
    await this.#run(one, text, () => pipeline(Readable.from([data]), one.client.query(copyStreams.from(text))))
  }
}
