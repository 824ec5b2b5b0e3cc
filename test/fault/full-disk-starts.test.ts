// deadline: 300s
// beside: others
// An engine that is killed while a disk is full comes back at once, serves reads, says why it takes no writes, and takes them by itself when there is space again.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { writeOnFullDisk } from '../../agent/disk.ts'
import { ExitCode } from '../../agent/errors.ts'
import { createLog } from '../../agent/log.ts'
import type { EngineStatus } from '../../agent/plugin.ts'
import { codeOf, TestEngine } from '../support/engine.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { patience } from './support/guarded.ts'
import { canMount, SmallDisk } from './support/small-disk.ts'

const test = suite('starts on a full disk')

/** Registers a test that needs disks of its own. */
function onSmallDisks(name: string, run: () => Promise<void>): void {
  if (canMount) test(name, run)
  else test.skip(name)
}

const countOf = async (engine: TestEngine): Promise<number> => Number((await engine.sql('SELECT count(*) FROM notes'))[0]?.[0])
const insert = (engine: TestEngine) => engine.sql("INSERT INTO notes VALUES (nextval('numbers'), 'written')")
const statusOf = async (engine: TestEngine): Promise<EngineStatus> => await engine.control.status()

/** What the client of a refused write is told. */
async function refusalOf(engine: TestEngine): Promise<{ code?: string; message?: string; hint?: string }> {
  return await insert(engine).then(
    () => ({ message: 'it was taken' }),
    (error: { code?: string; message?: string; hint?: string }) => error,
  )
}

async function assertReadsOnly(engine: TestEngine, rows: number): Promise<void> {
  assert.is(await countOf(engine), rows)
  const { code, message = '', hint = '' } = await refusalOf(engine)
  assert.is(code, '53100', message)
  assert.match(message, /the disk is full \(ENOSPC, .*journal\)/)
  assert.match(hint, /free space on the disk of the journal; writes resume by themselves/)
  assert.match((await statusOf(engine)).readOnlyReason ?? '', 'the disk is full')
  // Not to the watchdog: an engine that is replaced would be no better off.
  await engine.control.probe()
  assert.is(await countOf(engine), rows, 'the refused one is not there')
}

/** Fills the journal up to the end of what it has allocated. Returns the rows that were taken. */
async function writeUntilRefused(engine: TestEngine): Promise<number> {
  for (let taken = 0; ; taken++) {
    const code = await codeOf(engine.sql(`INSERT INTO notes SELECT nextval('numbers'), repeat('n', 100000)`))
    if (code === undefined) continue
    assert.is(code, '53100')
    return taken
  }
}

/** Put off: the engine is none the worse for it. */
async function refusedCheckpoint(engine: TestEngine): Promise<void> {
  const told = await engine.control.checkpoint().then(() => 'done', String)
  assert.match(told, 'not enough free space for a checkpoint')
}

onSmallDisks('killed while its only disk is full to the last byte, again and again', async () => {
  const disk = new SmallDisk('24m')
  const engine = await TestEngine.start({ data: path.join(disk.directory, 'data') })
  try {
    await engine.sql('CREATE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR)', 'CREATE SEQUENCE numbers')
    await insert(engine)
    disk.fill()
    let rows = 1 + (await writeUntilRefused(engine))
    assert.is(await countOf(engine), rows)
    for (let round = 0; round < 4; round++) {
      // The start before may have given something back.
      await engine.kill()
      disk.fill()
      await engine.start()
      await assertReadsOnly(engine, rows)
    }
    const { pid } = engine
    disk.clear()
    await waitFor('it finds the space by itself', async () => (await statusOf(engine)).readOnlyReason === null, { deadline: patience })
    await insert(engine)
    rows += 1
    assert.is(engine.pid, pid)
    await engine.restart()
    assert.is(await countOf(engine), rows)
    const { recovery } = engine.control.hello
    assert.equal([recovery.gaps, recovery.refused, recovery.quarantined, recovery.cutBytes], [[], [], [], 0])
    // In order as well, and with its engine.json and mark gone.
    disk.fill()
    rows += await writeUntilRefused(engine)
    await engine.control.shutdown({ checkpoint: true })
    assert.equal(await engine.exit(), { code: 0, signal: null })
    disk.fill()
    await engine.start()
    await assertReadsOnly(engine, rows)
    disk.clear()
    await waitFor('it takes writes again', async () => (await codeOf(insert(engine))) === undefined, { deadline: patience })
  } finally {
    await engine.kill()
  }
})

onSmallDisks(
  'a checkpoint for which the disk turns out to be too small ends the engine (70); the next one serves, and waits with its checkpoints',
  async () => {
    const disk = new SmallDisk('32m')
    const journal = path.join(temporaryDirectory('j'), 'journal')
    const engine = await TestEngine.start({ data: path.join(disk.directory, 'data'), engine: [`journal_dir: ${journal}`] })
    try {
      await engine.sql('CREATE TABLE keys (key UUID)')
      await engine.control.checkpoint()
      disk.fill(6 << 20)
      for (let i = 0; i < 16; i++) await engine.sql('INSERT INTO keys SELECT gen_random_uuid() FROM range(50000)')
      const ordered = engine.control.checkpoint().then(
        () => 'done',
        () => 'failed',
      )
      assert.equal(await engine.exit(), { code: ExitCode.suspect, signal: null })
      assert.is(await ordered, 'failed')
      for (let round = 0; round < 2; round++) {
        await engine.restart()
        assert.equal(await engine.sql('SELECT count(*) FROM keys'), [['800000']])
        await refusedCheckpoint(engine)
        await engine.control.probe()
      }
      disk.clear()
      assert.is((await engine.control.checkpoint()).watermark, engine.control.hello.durableSeq)
      await engine.restart()
      assert.equal(await engine.sql('SELECT count(*) FROM keys'), [['800000']])
      assert.is(engine.control.hello.recovery.replayed, 0)
    } finally {
      await engine.kill()
    }
  },
)

onSmallDisks('the disk of the journal is full, that of the data is not; then the other way round', async () => {
  const journal = new SmallDisk('24m')
  const data = new SmallDisk('24m')
  const engine = await TestEngine.start({
    data: path.join(data.directory, 'data'),
    engine: [`journal_dir: ${path.join(journal.directory, 'journal')}`],
  })
  try {
    await engine.sql('CREATE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR)', 'CREATE SEQUENCE numbers')
    await insert(engine)
    journal.fill()
    let rows = 1 + (await writeUntilRefused(engine))
    for (let round = 0; round < 2; round++) {
      await engine.kill()
      journal.fill()
      await engine.start()
      await assertReadsOnly(engine, rows)
      // What is acknowledged goes into the file all the same.
      assert.is((await engine.control.checkpoint()).watermark, engine.control.hello.durableSeq)
    }
    journal.clear()
    await waitFor('it takes writes again', async () => (await codeOf(insert(engine))) === undefined, { deadline: patience })
    rows += 1

    data.fill()
    for (let round = 0; round < 2; round++) {
      await insert(engine)
      rows += 1
      await engine.control.probe()
      await refusedCheckpoint(engine)
      assert.is(await countOf(engine), rows)
      await engine.kill()
      data.fill()
      await engine.start()
      assert.is(await countOf(engine), rows)
    }
    data.clear()
    await engine.control.checkpoint()
    await engine.restart()
    assert.is(await countOf(engine), rows)
  } finally {
    await engine.kill()
  }
})

onSmallDisks('what a statement or a COMMIT would put on the full disk of the data fails it alone', async () => {
  const disk = new SmallDisk('24m')
  const journal = path.join(temporaryDirectory('j'), 'journal')
  const engine = await TestEngine.start({ data: path.join(disk.directory, 'data'), engine: [`journal_dir: ${journal}`] })
  try {
    await engine.sql('CREATE TABLE bulk (key UUID)', 'CREATE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR)')
    await engine.sql("INSERT INTO notes VALUES (0, 'before')")
    disk.fill()
    const { pid } = engine
    const client = await engine.connect()
    const fill = (rows: number) => codeOf(client.query(`INSERT INTO bulk SELECT gen_random_uuid() FROM range(${rows})`))
    // At COMMIT, which DuckDB would not survive.
    assert.is(await fill(500_000), '53100')
    // Before it.
    await client.query('BEGIN')
    assert.is(await fill(2_000_000), '53100')
    await client.query('ROLLBACK')
    assert.is(await codeOf(client.query('CREATE TABLE copy AS SELECT i, md5(i::VARCHAR) FROM range(2000000) r(i)')), '53100')
    // What a query does not find memory for.
    assert.is(
      await codeOf(client.query('SELECT count(*) FROM (SELECT hash(i) AS h FROM range(60000000) r(i) ORDER BY h OFFSET 1)')),
      '53100',
    )
    await client.query("INSERT INTO notes VALUES (1, 'after')")
    assert.ok(engine.running)
    assert.is(engine.pid, pid)
    disk.clear()
    assert.is(await fill(500_000), undefined)
    await engine.restart()
    const state = 'SELECT (SELECT count(*) FROM bulk), (SELECT count(*) FROM notes)'
    assert.equal(await engine.sql(state), [['500000', '2']])
    await engine.control.checkpoint()
    await engine.restart()
    assert.equal(await engine.sql(state), [['500000', '2']])
  } finally {
    await engine.kill()
  }
})

onSmallDisks('a small file takes new content in its own blocks when there is no room for a second copy, or stays as it is', async () => {
  const disk = new SmallDisk('1m')
  const file = path.join(disk.directory, 'small.json')
  const content = (bytes: number) => JSON.stringify({ text: 'x'.repeat(bytes) })
  const write = (text: string) => writeOnFullDisk(file, text, 'CURSOR:SAVE')
  write(content(100))
  disk.fill()
  const names = fs.readdirSync(disk.directory)
  for (const bytes of [50, 1000, 10, 4000]) {
    write(content(bytes))
    assert.is(JSON.parse(fs.readFileSync(file, 'utf8')).text.length, bytes)
  }
  assert.throws(() => write(content(5000)), /ENOSPC/)
  assert.is(JSON.parse(fs.readFileSync(file, 'utf8')).text.length, 4000)
  assert.equal(fs.readdirSync(disk.directory), names)
  disk.clear()
  write(content(5000))
  assert.is(fs.readFileSync(file, 'utf8'), content(5000))
})

for (const format of ['json', 'pretty'] as const)
  onSmallDisks(`a log (${format}) whose disk is full ends nothing; its lines wait, and go out with a later one`, async () => {
    const disk = new SmallDisk('1m')
    const file = path.join(disk.directory, 'log')
    const log = createLog({ name: 'test', format, destination: fs.openSync(file, 'a') })
    log.info('before')
    disk.fill()
    // More than the page that the file has.
    for (let i = 0; i < 100; i++) log.info(`line ${i}: ${'x'.repeat(100)}`)
    disk.clear()
    log.info('after')
    await waitFor('the lines are there', () => {
      const found = [...fs.readFileSync(file, 'utf8').matchAll(/before|line \d+|after/g)].map(([text]) => text)
      return found.join() === ['before', ...Array.from({ length: 100 }, (_, i) => `line ${i}`), 'after'].join()
    })
  })

test.run()
