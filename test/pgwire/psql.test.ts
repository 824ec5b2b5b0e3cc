// deadline: 120s
// needs: psql
// psql's own commands, and what drivers and tools ask of the catalog when they connect: answers that an operator can use, or clean errors.

import type pg from 'pg'
import postgres from 'postgres'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { runChild } from '../support/process.ts'

const test = suite('psql')
let engine: TestEngine
let client: pg.Client

test.before(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
  await client.query('CREATE TABLE brokers (broker_id BIGINT PRIMARY KEY, name VARCHAR NOT NULL, CHECK (broker_id > 0), UNIQUE (name))')
  await client.query(
    'CREATE TABLE trades (trade_id BIGINT PRIMARY KEY, broker_id BIGINT REFERENCES brokers (broker_id), price DECIMAL(18,8) DEFAULT 1.5, tags VARCHAR[], moment TIMESTAMPTZ)',
  )
  await client.query('CREATE INDEX by_price ON trades (price); CREATE SCHEMA other; CREATE TABLE other.trades (id INTEGER)')
  await client.query('CREATE VIEW cheap AS SELECT trade_id FROM trades; CREATE SEQUENCE ids; CREATE MACRO twice(a) AS a * 2')
  await client.query("INSERT INTO brokers VALUES (1, 'one')")
  await client.query("COMMENT ON TABLE brokers IS 'who trades'")
})
test.after(() => engine.kill())

async function psql(...commands: string[]) {
  const args = ['-X', '-A', '-P', 'footer=off', '-h', '127.0.0.1', '-p', String(engine.port), '-U', 'trader', '-d', 'trade_data']
  return runChild('psql', [...args, ...commands.flatMap((command) => ['-c', command])])
}

async function answer(...commands: string[]): Promise<string> {
  const { stdout, stderr } = await psql(...commands)
  assert.is(stderr, '', commands.join('; '))
  // Without the title and the header.
  return stdout.trim().replace(/^(List of [^\n]*\n)?[A-Z][^\n]*\|[^\n]*\n/, '')
}

test('the lists that an operator types', async () => {
  assert.equal((await answer('\\dt')).split('\n'), ['main|brokers|table|daemonguard', 'main|trades|table|daemonguard'])
  assert.is(await answer('\\dt other.*'), 'other|trades|table|daemonguard')
  assert.match(await answer('\\dt+'), /brokers\|table\|daemonguard\|permanent\|heap\|\|who trades/)
  assert.match(await answer('\\d'), /main\|cheap\|view.*\nmain\|ids\|sequence.*\nmain\|trades\|table/)
  assert.match(await answer('\\l'), /^trade_data\|/)
  assert.is((await answer('\\l')).split('\n').length, 1)
  assert.match(await answer('\\dn'), /^main\|.*\nother\|/)
  assert.not.match(await answer('\\dn'), 'daemonguard|')
  assert.match(await answer('\\di'), /by_price\|index\|daemonguard\|trades/)
  assert.is(await answer('\\dv'), 'main|cheap|view|daemonguard')
  assert.match(await answer('\\df'), /^main\|twice\|/)
  assert.match(await answer('\\du'), /daemonguard/)
  assert.is(await answer('\\ds'), 'main|ids|sequence|daemonguard')
  assert.match(await answer('\\conninfo'), /database "trade_data" as user "trader"/)
})

test('a table with its types, keys, indexes and who refers to it', async () => {
  const trades = await answer('\\d trades')
  for (const part of [
    'trade_id|bigint||not null|',
    'price|numeric(18,8)|||1.5',
    'tags|text[]|||',
    'moment|timestamp with time zone|||',
    '"trades_trade_id_pkey" PRIMARY KEY, art (trade_id)',
    '"by_price" art (price)',
    'FOREIGN KEY (broker_id) REFERENCES brokers(broker_id)',
  ])
    assert.ok(trades.includes(part), trades)
  const brokers = await answer('\\d+ brokers')
  for (const part of ['UNIQUE CONSTRAINT, art (name)', 'CHECK((broker_id > 0))', 'TABLE "trades" CONSTRAINT'])
    assert.ok(brokers.includes(part), brokers)
  assert.match(await answer('\\d+ cheap'), 'SELECT trade_id FROM trades;')
  assert.match(await answer('\\sv cheap'), 'CREATE OR REPLACE VIEW main.cheap AS')
  assert.match(await answer('\\sf twice'), 'CREATE MACRO twice(a) AS')
  assert.match(await answer('\\d ids'), 'bigint|1|1|9223372036854775807|1|no|1')
})

test('a constraint has the name that was written, which DROP CONSTRAINT knows, after a restart too', async () => {
  await client.query(`CREATE TABLE named (id BIGINT CONSTRAINT named_by_hand PRIMARY KEY, broker BIGINT CONSTRAINT "of a Broker" REFERENCES brokers (broker_id),
    price DOUBLE CONSTRAINT positive CHECK (price > 0), "odd ""name" INTEGER, UNIQUE (price), CONSTRAINT once UNIQUE (broker, "odd ""name"))`)
  await client.query('ALTER TABLE named ADD CONSTRAINT small CHECK (price < 1000000)')
  const shown = [
    '"named_by_hand" PRIMARY KEY, art (id)',
    '"once" UNIQUE CONSTRAINT, art (broker, ',
    '"named_price_key" UNIQUE CONSTRAINT, art (price)',
    '"positive" CHECK((price > 0))',
    '"small" CHECK',
    '"of a Broker" FOREIGN KEY (broker)',
  ]
  const check = async (expected: string[]) => {
    const table = await answer('\\d named')
    for (const part of expected) assert.ok(table.includes(part), `${part} in ${table}`)
  }
  await check(shown)
  assert.match(await answer('\\d brokers'), 'TABLE "named" CONSTRAINT "of a Broker" FOREIGN KEY')
  await client.end()
  await engine.restart()
  client = await engine.connect()
  await check(shown)
  for (const name of ['small', '"of a Broker"', 'once']) await client.query(`ALTER TABLE named DROP CONSTRAINT ${name}`)
  const rest = await answer('\\d named')
  for (const name of ['small', 'of a Broker', 'once']) assert.not.match(rest, name)
  await check(shown.slice(2, 4))
  await client.query('DROP TABLE named')
})

test('\\du lists the users of the configuration, and those who have come since', async () => {
  const guarded = await TestEngine.prepare()
  const auth = (...names: string[]) => ({ method: 'trust' as const, users: names.map((name) => ({ name })) })
  guarded.configure([`auth: ${JSON.stringify(auth('trader', "o'brien"))}`])
  await guarded.start()
  try {
    const names = async () => (await guarded.sql('SELECT rolname FROM pg_roles ORDER BY oid')).map(([name]) => name)
    assert.equal(await names(), ['daemonguard', 'trader', "o'brien"])
    await guarded.control.users({ ...auth('trader', 'grafana'), socket: 'trust' } as never)
    assert.equal(await names(), ['daemonguard', 'trader', 'grafana'])
    const { stdout } = await runChild('psql', [
      '-X',
      '-A',
      '-h',
      '127.0.0.1',
      '-p',
      String(guarded.port),
      '-U',
      'trader',
      '-d',
      'trade_data',
      '-c',
      '\\du',
    ])
    assert.match(stdout, /^trader\|/m)
  } finally {
    await guarded.kill()
  }
})

test('\\x, \\timing and \\gdesc', async () => {
  const run = await runChild('psql', ['-X', '-h', '127.0.0.1', '-p', String(engine.port), '-U', 'trader', '-d', 'trade_data'], {
    input: "\\x\n\\timing\nSELECT 1 AS one;\nSELECT 1 AS i, 'x' AS t, 1.5::DECIMAL(9,2) AS d, now() AS n \\gdesc\n",
  })
  assert.is(run.stderr, '')
  assert.match(run.stdout, /one \| 1/)
  assert.match(run.stdout, /Time: /)
  assert.match(run.stdout.replace(/\s/g, ''), /integer.*text.*numeric\(9,2\).*timestampwithtimezone/)
})

test('every other command is answered or refused cleanly, and the engine lives on', async () => {
  const names =
    'dA dAc dAf dAo dAp da db dc dC dconfig dd dD ddp dE des det deu dew dF dFd dFp dFt dfa dfn dft dfw dg dl dL dm do dO dp dP dPi dRp dRs drds dT dx dX dy l+ z lo_list di+ dn+ ds+ dv+ df+ dT+'
  const commands = names.split(' ').map((name) => `\\${name}`)
  const { stderr } = await psql('\\set VERBOSITY verbose', ...commands)
  assert.not.match(stderr, 'XX000')
  // One after the other: psql goes on after an error only in a script.
  const script = await runChild(
    'psql',
    ['-X', '-h', '127.0.0.1', '-p', String(engine.port), '-U', 'trader', '-d', 'trade_data', '-v', 'VERBOSITY=verbose'],
    {
      input: `${commands.join('\n')}\n`,
    },
  )
  const states = [...script.stderr.matchAll(/ERROR: {2}(\w{5}):/g)].map(([, state]) => state)
  assert.ok(
    states.every((state) => state === '42P01' || state === '42601' || state === '42883' || state === '42703'),
    script.stderr,
  )
  assert.ok(engine.running)
})

test('postgres.js learns the array types when it connects', async () => {
  const sql = postgres({ host: '127.0.0.1', port: engine.port, user: 'trader', database: 'trade_data', max: 1, onnotice: () => {} })
  try {
    assert.equal([...(await sql`SELECT 1 AS one`)], [{ one: 1 }])
    assert.equal([...(await sql`SELECT ${sql.array([1, 2])}::INTEGER[] AS list`)], [{ list: [1, 2] }])
    assert.equal([...(await sql`SELECT name FROM brokers WHERE broker_id = ANY(${[1, 2]})`)], [{ name: 'one' }])
    assert.equal([...(await sql`SELECT name FROM brokers WHERE name <> ALL(${['two', 'x']})`)], [{ name: 'one' }])
    const failed = await sql`SELECT ${'x'} FROM nowhere`.catch((error: { code: string }) => error.code)
    assert.is(failed, '42P01', 'it asks with Flush and waits for the answer before its Sync')
    assert.equal([...(await sql`SELECT ['a', 'b'] AS list`)], [{ list: ['a', 'b'] }])
  } finally {
    await sql.end({ timeout: 5 })
  }
})

const asked: readonly (readonly [who: string, text: string, expected: readonly (readonly (string | null)[])[]])[] = [
  ['a session', 'SELECT current_user, session_user', [['trader', 'trader']]],
  ['JDBC', 'SHOW TRANSACTION ISOLATION LEVEL', [['repeatable read']]],
  ['JDBC', 'SET extra_float_digits = 3', []],
  ['JDBC', 'SELECT current_schema()', [['main']]],
  [
    'JDBC',
    "SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid FROM pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join ( select s.r, (current_schemas(false))[s.r] as nspname from generate_series(1, array_upper(current_schemas(false), 1)) as s(r) ) as r using ( nspname ) ) as sp ON sp.nspoid = typnamespace WHERE pg_type.oid = 1007 ORDER BY sp.r, pg_type.oid DESC",
    [['t', 'b', '_int4', '1007']],
  ],
  [
    'JDBC',
    "SELECT n.nspname, c.relname, CASE n.nspname ~ '^pg_' WHEN true THEN 'SYSTEM' ELSE 'TABLE' END FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND c.relname LIKE 'bro%s'",
    [['main', 'brokers', 'TABLE']],
  ],
  [
    'JDBC, for the columns of a key,',
    "SELECT result.column_name, result.key_seq, result.pk_name FROM (SELECT ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE true AND ct.relname = 'brokers' AND i.indisprimary) result WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_name",
    [['broker_id', '1', 'brokers_broker_id_pkey']],
  ],
  ['JDBC', "SELECT setting FROM pg_catalog.pg_settings WHERE name='max_index_keys'", [['32']]],
  [
    'JDBC, for foreign keys,',
    "SELECT pkc.relname, pka.attname, fkc.relname, fka.attname, pos.n, pkic.relname FROM pg_catalog.pg_namespace pkn, pg_catalog.pg_class pkc, pg_catalog.pg_attribute pka, pg_catalog.pg_namespace fkn, pg_catalog.pg_class fkc, pg_catalog.pg_attribute fka, pg_catalog.pg_constraint con, pg_catalog.generate_series(1, 32) pos(n), pg_catalog.pg_class pkic WHERE pkn.oid = pkc.relnamespace AND pkc.oid = pka.attrelid AND pka.attnum = con.confkey[pos.n] AND con.confrelid = pkc.oid AND fkn.oid = fkc.relnamespace AND fkc.oid = fka.attrelid AND fka.attnum = con.conkey[pos.n] AND con.conrelid = fkc.oid AND con.contype = 'f' AND (pkic.relkind = 'i' OR pkic.relkind = 'I') AND pkic.oid = con.conindid AND fkc.relname = 'trades' ORDER BY pkn.nspname, pkc.relname, con.conname, pos.n",
    [['brokers', 'broker_id', 'trades', 'broker_id', '1', 'brokers_broker_id_pkey']],
  ],
  ['SQLAlchemy', "SELECT t.oid, typarray FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid WHERE typname = 'hstore'", []],
  [
    'SQLAlchemy',
    "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'brokers' AND pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)",
    [['brokers']],
  ],
  [
    'Npgsql',
    "SELECT typ.typname, elemtyp.typname FROM pg_type AS typ LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid) LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = typ.typelem WHERE proc.proname = 'array_recv' AND typ.typelem = 20",
    [['_int8', 'int8']],
  ],
  [
    'Grafana',
    "SELECT quote_ident(column_name), data_type FROM information_schema.columns WHERE table_name = 'brokers' ORDER BY 1",
    [
      ['broker_id', 'BIGINT'],
      ['name', 'VARCHAR'],
    ],
  ],
  ['Grafana', "SELECT current_setting('server_version_num')::int / 100", [['1500']]],
  [
    'an ORM',
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indrelid = 'brokers'::regclass AND i.indisprimary",
    [['broker_id', 'bigint']],
  ],
  ['an ORM', "SELECT oid::regclass FROM pg_class WHERE oid = 'other.trades'::regclass", [['trades']]],
  ['an ORM', 'SELECT schema_name FROM information_schema.schemata ORDER BY 1', [['main'], ['other']]],
  [
    'psql’s completion',
    "SELECT pg_catalog.quote_ident(c.relname), NULL::pg_catalog.text FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'v') AND ((c.relname) LIKE 'bro%') AND pg_catalog.pg_table_is_visible(c.oid) AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog') UNION ALL SELECT NULL::pg_catalog.text, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'bro%' AND n.nspname NOT LIKE E'pg\\\\_%' LIMIT 1000",
    [['brokers', null]],
  ],
]

for (const [who, text, expected] of asked) {
  test(`${who} asks ${text.slice(0, 60)}…`, async () => {
    assert.equal(await rowsOf(client, text), expected)
  })
}

test('version() begins as drivers expect, and names DuckDB', async () => {
  const result = await client.query('SELECT version()')
  assert.match(result.rows[0].version, /^PostgreSQL 15\.0 \(DaemonGuard .*DuckDB v1\./)
  assert.match((await client.query('SELECT pg_catalog.version()')).rows[0].version, /^PostgreSQL 15/)
})

test.run()
