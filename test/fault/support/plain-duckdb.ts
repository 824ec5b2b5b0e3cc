/**
 * A platform that uses DuckDB by itself, as before DaemonGuard: a table with a foreign key, an index, a view and a sequence in the file, and then
 * commits that stay in DuckDB's own WAL. It prints each id that was committed, and goes on until it is killed.
 * Usage: node plain-duckdb.ts FILE [STORAGE-VERSION]
 */

import { DuckDBInstance } from '@duckdb/node-api'

const [file, version] = process.argv.slice(2)
const instance = await DuckDBInstance.create(file as string, version === undefined ? {} : { storage_compatibility_version: version })
const connection = await instance.connect()
await connection.run("SET checkpoint_threshold = '1TB'")
for (const statement of [
  'CREATE TABLE brokers (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL)',
  "INSERT INTO brokers VALUES (1, 'Aldous'), (2, 'Birkin')",
  'CREATE SEQUENCE ticket START 1',
  "CREATE TABLE trades (id BIGINT PRIMARY KEY, broker INTEGER REFERENCES brokers (id), price DECIMAL(18,2), ticket BIGINT DEFAULT nextval('ticket'))",
  'CREATE INDEX by_price ON trades (price)',
  'CREATE VIEW volume AS SELECT broker, count(*) AS n FROM trades GROUP BY broker',
  "INSERT INTO trades SELECT i, 1 + i % 2, i / 4, nextval('ticket') FROM range(1, 1001) r(i)",
  'CHECKPOINT',
])
  await connection.run(statement)
for (let id = 1_001; ; id++) {
  await connection.run(`INSERT INTO trades (id, broker, price) VALUES (${id}, ${1 + (id % 2)}, ${id} / 4)`)
  process.stdout.write(`${id}\n`)
}
