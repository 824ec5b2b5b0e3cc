// What README says of isolation, and its sample, run as it stands there.

import fs from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from './support/engine.ts'
import { type Child, spawnChild } from './support/process.ts'
import { temporaryDirectory } from './support/temp.ts'
import { waitFor } from './support/wait.ts'

const test = suite('readme')
const root = path.join(import.meta.dirname, '..')
let engine: TestEngine
let one: pg.Client
let two: pg.Client
let sample: string

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql(
    'CREATE TABLE accounts (id INTEGER PRIMARY KEY, cash INTEGER)',
    'CREATE TABLE brokers (id INTEGER PRIMARY KEY, connected BOOLEAN)',
    'CREATE TABLE rules (id INTEGER PRIMARY KEY, checked INTEGER)',
    'INSERT INTO rules VALUES (1, 0)',
  )
  ;[one, two] = await Promise.all([engine.connect(), engine.connect()])
  const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8')
  const blocks = [...readme.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code]) => code as string)
  assert.is(blocks.length, 1, 'README has one sample in JavaScript')
  const code = (blocks[0] as string).replace('port: 5433', `port: ${engine.port}`)
  assert.is.not(code, blocks[0])
  const directory = temporaryDirectory('readme')
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(directory, 'node_modules'))
  sample = path.join(directory, 'sample.mjs')
  fs.writeFileSync(sample, code)
})
test.before.each(async () => {
  for (const client of [one, two]) await client.query('ROLLBACK')
  await one.query('DELETE FROM accounts')
  await one.query('INSERT INTO accounts VALUES (1, 1000), (2, 0)')
  await one.query('INSERT OR REPLACE INTO brokers VALUES (1, true), (2, true)')
})
test.after(() => engine.kill())

const run = (): Child => spawnChild(process.execPath, [sample])
const cash = () => rowsOf(one, 'SELECT cash FROM accounts ORDER BY id')

test('the sample moves the money, once, and tries again while another transaction has the row', async () => {
  const alone = run()
  assert.equal(await alone.exited, { code: 0, signal: null }, alone.output())
  assert.equal([alone.output(), await cash()], ['', [['900'], ['100']]])

  await two.query('BEGIN; UPDATE accounts SET cash = cash - 300 WHERE id = 1')
  const rivals = [run(), run()]
  for (const rival of rivals)
    await waitFor('it has tried in vain', () => rival.stderr().includes('attempt 1: ') || rival.exit !== null, { deadline: 30_000 })
  await two.query('COMMIT')
  for (const rival of rivals) assert.equal(await rival.exited, { code: 0, signal: null }, rival.output())
  assert.equal(await cash(), [['400'], ['300']])
})

test('the sample gives up what is no conflict, and nothing of it stays', async () => {
  await one.query('UPDATE accounts SET cash = 99 WHERE id = 1')
  const poor = run()
  assert.is((await poor.exited).code, 1)
  assert.match(poor.stderr(), 'Error: not enough')
  assert.not.match(poor.stderr(), 'attempt')
  assert.equal(await cash(), [['99'], ['0']])
})

test('a snapshot is of the first look: later commits are not in it, whatever level was asked for', async () => {
  for (const level of ['', ' ISOLATION LEVEL READ COMMITTED', ' ISOLATION LEVEL REPEATABLE READ']) {
    await one.query(`BEGIN${level}`)
    const before = await cash()
    await two.query('UPDATE accounts SET cash = cash + 1')
    assert.equal(await cash(), before, level)
    await one.query('COMMIT')
    assert.equal(
      await cash(),
      before.map(([sum]) => [String(Number(sum) + 1)]),
    )
  }
  assert.is(await codeOf(one.query('BEGIN ISOLATION LEVEL SERIALIZABLE')), '0A000')
  assert.ok((await codeOf(one.query('SELECT * FROM accounts FOR UPDATE'))) !== undefined)
})

test('write skew: both commit, unless both change a row of the rule', async () => {
  const leave = async (client: pg.Client, broker: number, rule: boolean): Promise<string | undefined> => {
    await client.query('BEGIN')
    const code = rule ? await codeOf(client.query('UPDATE rules SET checked = checked + 1 WHERE id = 1')) : undefined
    if (code !== undefined) return code
    const [[connected] = []] = await rowsOf(client, 'SELECT count(*) FROM brokers WHERE connected')
    assert.is(connected, '2')
    return codeOf(client.query(`UPDATE brokers SET connected = false WHERE id = ${broker}`))
  }
  assert.equal([await leave(one, 1, false), await leave(two, 2, false)], [undefined, undefined])
  assert.equal([await codeOf(one.query('COMMIT')), await codeOf(two.query('COMMIT'))], [undefined, undefined])
  assert.equal(await rowsOf(one, 'SELECT count(*) FROM brokers WHERE connected'), [['0']], 'which neither wanted')

  await one.query('UPDATE brokers SET connected = true')
  assert.equal([await leave(one, 1, true), await leave(two, 2, true)], [undefined, '40001'])
  await one.query('COMMIT')
  await two.query('ROLLBACK')
  assert.equal(await rowsOf(one, 'SELECT count(*) FROM brokers WHERE connected'), [['1']])
})

test.run()
