/** Random statements that change the schema. */

import { type KnownColumn, type KnownSchema, type KnownTable, quote } from './known-schema.ts'
import { keys, type RandomType } from './random-types.ts'

function createTable(known: KnownSchema): string {
  const { random } = known
  const columns: string[] = []
  const keyed = random.chance(0.85)
  const composite = keyed && random.chance(0.2)
  if (keyed) columns.push(`id ${random.chance(0.6) ? 'INTEGER' : known.type(random.pick(keys)).sql}${composite ? '' : ' PRIMARY KEY'}`)
  known.type(keys[2] as RandomType)
  if (composite) columns.push(`id2 ${known.type(random.pick(keys)).sql}`)
  for (let i = random.int(1, 5); i > 0; i--) columns.push(known.columnDefinition(`c${i}`))
  if (random.chance(0.3)) columns.push('stamp TIMESTAMP DEFAULT now()')
  if (random.chance(0.3)) columns.push('r DOUBLE DEFAULT random()')
  if (random.chance(0.2)) columns.push('u UUID DEFAULT uuid()')
  if (random.chance(0.3)) columns.push("n BIGINT DEFAULT nextval('main.seq')")
  if (random.chance(0.2)) columns.push('m main.mood')
  if (random.chance(0.2)) columns.push('x INTEGER UNIQUE')
  if (random.chance(0.2)) columns.push('y INTEGER CHECK (y < 1000)', 'g INTEGER GENERATED ALWAYS AS (y * 2)')
  const parent = known.tables.find(({ key }) => key.length === 1 && key[0]?.sql === 'INTEGER')
  if (parent !== undefined && random.chance(0.4))
    columns.push(`parent INTEGER REFERENCES ${parent.path} (${quote(parent.key[0]?.name ?? '')})`)
  if (composite) columns.push('PRIMARY KEY (id, id2)')
  return `CREATE ${random.chance(0.1) ? 'OR REPLACE ' : ''}TABLE ${random.chance(0.1) ? 'IF NOT EXISTS ' : ''}${known.place()}${known.name('t')} (${columns.join(', ')})`.replace(
    'OR REPLACE TABLE IF NOT EXISTS',
    'TABLE IF NOT EXISTS',
  )
}

/** A foreign key, a UNIQUE or a CHECK over one column of the table. */
function addedConstraint(known: KnownSchema, name: string): string {
  const { random } = known
  const parent = known.tables.find(({ key }) => key.length === 1)
  if (parent !== undefined && random.chance(0.5))
    return `FOREIGN KEY (${name}) REFERENCES ${parent.path} (${quote(parent.key[0]?.name ?? '')})`
  return random.pick([`UNIQUE (${name})`, `CHECK (${name} IS NOT NULL)`, `CHECK (hash(${name}) <> 0)`])
}

/** undefined: there is nothing that it could be about. */
export function schemaStatement(known: KnownSchema): string | undefined {
  const { random } = known
  const table = known.tables.length === 0 ? undefined : random.pick(known.tables)
  const column = table === undefined ? undefined : random.pick(table.columns)
  const name = column === undefined ? '' : quote(column.name)
  const onTable = (text: (table: KnownTable) => string | undefined) => (table === undefined ? undefined : text(table))
  const choices: (() => string | undefined)[] = [
    () => createTable(known),
    () => createTable(known),
    () => createTable(known),
    () =>
      onTable(
        ({ path }) =>
          `CREATE ${random.chance(0.2) ? 'OR REPLACE ' : ''}TABLE ${known.place()}${known.name('t')} AS SELECT *, random() AS rnd, now() AS at2 FROM ${path}`,
      ),
    () => onTable(({ path }) => `ALTER TABLE ${path} ADD COLUMN ${known.columnDefinition(known.name('a'))}`),
    () =>
      onTable(
        ({ path }) =>
          `ALTER TABLE ${path} ADD COLUMN ${known.name('a')} ${random.pick(['TIMESTAMP DEFAULT now()', 'DOUBLE DEFAULT random()', "VARCHAR DEFAULT upper('x')", 'DATE DEFAULT CURRENT_DATE', "BIGINT DEFAULT nextval('main.seq')"])}`,
      ),
    () => onTable(({ path }) => `ALTER TABLE ${path} DROP COLUMN ${name}`),
    () => onTable(({ path }) => `ALTER TABLE ${path} RENAME COLUMN ${name} TO ${known.name('b')}`),
    () => onTable(({ path }) => `ALTER TABLE ${path} RENAME TO ${known.name('t')}`),
    () => onTable(({ path }) => `ALTER TABLE ${path} ALTER COLUMN ${name} TYPE VARCHAR`),
    () => onTable(({ path }) => `ALTER TABLE ${path} ALTER ${name} SET DATA TYPE DOUBLE USING random()`),
    () => onTable(({ path }) => `ALTER TABLE ${path} ALTER COLUMN ${name} SET DEFAULT NULL`),
    () => onTable(({ path }) => `ALTER TABLE ${path} ALTER COLUMN ${name} ${random.pick(['DROP', 'SET'])} NOT NULL`),
    () =>
      onTable(
        ({ path }) =>
          `ALTER TABLE ${path} ALTER COLUMN ${name} ${random.chance(0.5) ? 'DROP DEFAULT' : `SET DEFAULT ${known.expression(column as KnownColumn)}`}`,
      ),
    () => onTable(({ path }) => `ALTER TABLE ${path} ADD PRIMARY KEY (${name})`),
    () => onTable(({ path }) => `ALTER TABLE ${path} ADD CONSTRAINT ${known.name('k')} ${addedConstraint(known, name)}`),
    () => onTable(({ path }) => `ALTER TABLE ${path} ADD CONSTRAINT ${known.name('k')} ${addedConstraint(known, name)}`),
    () =>
      onTable(({ path, constraints }) =>
        constraints.length === 0 ? undefined : `ALTER TABLE ${path} DROP CONSTRAINT ${quote(random.pick(constraints))}`,
      ),
    () =>
      onTable(
        ({ path }) =>
          `CREATE ${random.chance(0.2) ? 'UNIQUE ' : ''}INDEX ${known.name('i')} ON ${path} (${random.chance(0.2) ? `hash(${name})` : name})`,
      ),
    () => `DROP INDEX IF EXISTS ${known.place()}${known.name('i')}`,
    () =>
      onTable(
        ({ path }) => `CREATE ${random.chance(0.5) ? 'OR REPLACE ' : ''}VIEW ${known.place()}${known.name('v')} AS SELECT * FROM ${path}`,
      ),
    () => `DROP VIEW IF EXISTS ${known.place()}${known.name('v')}`,
    () => `CREATE SEQUENCE IF NOT EXISTS main.seq START ${random.int(1, 50)}`,
    () =>
      `CREATE SEQUENCE ${known.place()}${known.name('s')} INCREMENT ${random.pick([1, 3, -2])} ${random.chance(0.3) ? 'MINVALUE -5 MAXVALUE 5 START 1 CYCLE' : ''}`,
    () => `DROP SEQUENCE IF EXISTS ${known.place()}${known.name('s')}`,
    () =>
      onTable(
        ({ path }) =>
          `CREATE TYPE ${known.place()}${known.name('e')} AS ENUM (SELECT DISTINCT ${name}::VARCHAR FROM ${path} WHERE ${name} IS NOT NULL)`,
      ),
    () => `CREATE TYPE ${known.place()}${known.name('y')} AS ${known.type().sql}`,
    () => `DROP TYPE IF EXISTS ${known.place()}${known.name('e')}`,
    () => `DROP MACRO IF EXISTS ${known.place()}${known.name('m')}`,
    () => onTable(({ path }) => `CREATE OR REPLACE MACRO ${known.place()}${known.name('m')}(a) AS TABLE SELECT * FROM ${path} LIMIT a`),
    () => `COMMENT ON ${random.pick(['SEQUENCE main.seq', 'TYPE main.mood'])} IS ${random.chance(0.3) ? 'NULL' : "'a comment'"}`,
    () => `CREATE SCHEMA ${known.name('schema')}`,
    () => `CREATE OR REPLACE MACRO ${known.place()}${known.name('m')}(a, b := 2) AS a + b`,
    () => onTable(({ path }) => `COMMENT ON TABLE ${path} IS 'it''s ${random.int(1, 9)}'`),
    () => onTable(({ path }) => `COMMENT ON COLUMN ${path}.${name} IS 'a column'`),
    () => onTable(({ path }) => (random.chance(0.3) ? `DROP TABLE ${path}` : undefined)),
    () => (random.chance(0.2) ? `DROP SCHEMA ${quote(random.pick(known.schemas))} CASCADE` : undefined),
    () => onTable(({ path }) => `CREATE OR REPLACE TEMP TABLE tmp AS SELECT * FROM ${path}`),
  ]
  return random.pick(choices)()
}
