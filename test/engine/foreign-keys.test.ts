// A foreign key that was written in other letters than the table that it references: it holds the same, for writers at the same time, in a replay, and in the catalog.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, TestEngine } from '../support/engine.ts'

const test = suite('foreign keys in other letters')
let engine: TestEngine

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql(
    'CREATE TABLE Par (Id INTEGER, Nr INTEGER, v INTEGER, PRIMARY KEY (id, NR))',
    'CREATE TABLE chi (id INTEGER PRIMARY KEY, nr INTEGER, pid INTEGER, FOREIGN KEY (PID, Nr) REFERENCES PAR (ID, nr))',
    'INSERT INTO par VALUES (1, 1, 0), (2, 2, 0)',
  )
})
test.after(() => engine.kill())

test('no child comes beside the DELETE of its parent', async () => {
  const [deleter, writer] = [await engine.connect(), await engine.connect()]
  for (const [first, second] of [
    ['DELETE FROM Par WHERE id = 1', 'INSERT INTO chi VALUES (1, 1, 1)'],
    ['INSERT INTO chi VALUES (1, 1, 1)', 'DELETE FROM Par WHERE id = 1'],
  ] as const) {
    await deleter.query('BEGIN')
    await writer.query('BEGIN')
    await deleter.query(first)
    assert.is(await codeOf(writer.query(second)), '40001', second)
    await writer.query('ROLLBACK')
    await deleter.query('ROLLBACK')
  }
  assert.is(await codeOf(engine.sql('BEGIN', 'DELETE FROM par WHERE id = 2', 'INSERT INTO chi VALUES (2, 2, 2)')), '23503')
})

test('parents come before their children in a replay, and go after them', async () => {
  // One net effect: all of it is behind the last checkpoint, in small transactions.
  await engine.control.checkpoint()
  for (let i = 10; i < 30; i++) await engine.sql(`INSERT INTO par VALUES (${i}, 0, 0)`, `INSERT INTO chi VALUES (${i}, 0, ${i})`)
  for (let i = 10; i < 20; i++) await engine.sql(`DELETE FROM chi WHERE id = ${i}`)
  for (let i = 10; i < 20; i++) await engine.sql(`DELETE FROM par WHERE id = ${i}`)
  await engine.sql('UPDATE par SET v = 1 WHERE id = 20', 'INSERT INTO chi VALUES (1, 1, 1)')
  const live = [await engine.sql('SELECT * FROM par ORDER BY id'), await engine.sql('SELECT * FROM chi ORDER BY id')]
  await engine.restart()
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal([await engine.sql('SELECT * FROM par ORDER BY id'), await engine.sql('SELECT * FROM chi ORDER BY id')], live)
  assert.is(await codeOf(engine.sql('DELETE FROM par WHERE id = 1')), '23503')
})

test('the catalog names both tables, and constraints can be added and dropped', async () => {
  const keys = `SELECT c.conrelid::regclass::text, c.confrelid::regclass::text, c.conkey::text, c.confkey::text, i.relname FROM pg_constraint c
    JOIN pg_class i ON i.oid = c.conindid WHERE c.contype = 'f'`
  assert.equal(await engine.sql(keys), [['chi', 'Par', '[3, 2]', '[1, 2]', 'Par_id_nr_pkey']])
  assert.is(await codeOf(engine.sql('ALTER TABLE par DROP CONSTRAINT "Par_pkey"')), '2BP01')
  await engine.sql('ALTER TABLE par ADD CONSTRAINT positive CHECK (v >= 0)')
  assert.is(await codeOf(engine.sql('INSERT INTO par VALUES (9, 9, -1)')), '23514')
  assert.is(await codeOf(engine.sql('INSERT INTO chi VALUES (9, 9, 9)')), '23503')
  const live = await engine.sql('SELECT * FROM chi ORDER BY id')
  await engine.restart()
  assert.equal(await engine.sql('SELECT * FROM chi ORDER BY id'), live)
  assert.equal(await engine.sql(keys), [['chi', 'Par', '[3, 2]', '[1, 2]', 'Par_id_nr_pkey']])
})

test.run()
