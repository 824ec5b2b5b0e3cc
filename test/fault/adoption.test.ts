// deadline: 240s
// beside: others
// A platform's existing .duckdb file, with its own WAL beside it as SIGKILL left it, is taken over on a copy; the original is kept byte for byte.

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { spawnChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { checkpointNote, flipBit } from './support/damage.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('adoption')
const plugins = ['watchdog: { max_restarts: 1000 }', 'checkpointer: { every_transactions: 5 }']

test('a file and its WAL are taken over whole, and then guarded as any other', async () => {
  const { file, committed } = await platformFile(300)
  const originals = [file, `${file}.wal`].map(digest)
  const guarded = await Guarded.prepare({ engine: [`database: ${file}`], plugins })
  try {
    await guarded.start()
    assert.ok(!fs.existsSync(`${file}.wal`), 'no WAL is left beside it')
    // The transaction that was under way when the platform was killed may be there or not.
    const [[count, last] = []] = await guarded.sql('SELECT count(*), max(id) FROM trades')
    assert.is(count, last)
    assert.ok(Number(last) === committed || Number(last) === committed + 1, `${last} of ${committed}`)
    assert.equal(
      await guarded.sql('SELECT count(*) FROM trades WHERE price IS DISTINCT FROM (id / 4)::DECIMAL(18,2) OR broker <> 1 + id % 2'),
      [['0']],
    )
    assert.equal(await guarded.sql('SELECT sum(n) FROM volume'), [[count]])
    assert.equal(await guarded.sql(`SELECT id FROM trades WHERE price = (${committed} / 4)::DECIMAL(18,2) AND id = ${committed}`), [
      [String(committed)],
    ])
    await refused(guarded, 'INSERT INTO trades (id, broker, price) VALUES (1, 1, 1)', '23505')
    await refused(guarded, 'INSERT INTO trades (id, broker, price) VALUES (-1, 99, 1)', '23503')

    const kept = filesBelow(path.join(guarded.data, 'quarantine'))
    assert.equal(
      originals.map((original) => kept.filter((one) => digest(one) === original).length),
      [1, 1],
      'file and WAL are in quarantine as they were',
    )
    const { incidents } = await guarded.status()
    assert.ok(!incidents.some(({ severity }) => severity === 'critical'), JSON.stringify(incidents))

    // Business as usual: writes over several checkpoints, kills, and the sequence goes on where it was.
    const tickets = new Set<string>()
    for (let round = 0; round < 3; round++) {
      for (let i = 1; i <= 8; i++) {
        const id = -(round * 8 + i)
        const [[ticket] = []] = await guarded.sql(`INSERT INTO trades (id, broker, price) VALUES (${id}, 1, 0) RETURNING ticket`)
        tickets.add(ticket as string)
      }
      await guarded.killEngine()
      await waitFor('the engine is back', async () => (await guarded.sql('SELECT 1')).length === 1, { deadline: patience })
      assert.equal(await guarded.sql('SELECT count(*) FROM trades WHERE id < 0'), [[String((round + 1) * 8)]])
    }
    assert.is(tickets.size, 24)
    assert.equal(await guarded.sql('SELECT count(*) - count(DISTINCT ticket) FROM trades'), [['0']], 'no ticket twice')
    assert.is((await guarded.command('scan')).code, 0)
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

test('a WAL that cannot be replayed goes to quarantine and is named, and the file opens', async () => {
  const random = seededRandom('broken WAL')
  const { file } = await platformFile(100)
  // The payload of an entry in the middle: its checksum fails, and DuckDB refuses the file as it is.
  const wal = fs.readFileSync(`${file}.wal`)
  const payload = entriesOf(wal)
  const { offset, length } = payload[Math.floor(payload.length / 2)] as { offset: number; length: number }
  flipBit(`${file}.wal`, offset + random.int(0, length - 1), random.int(0, 7))
  const broken = digest(`${file}.wal`)
  const guarded = await Guarded.prepare({ engine: [`database: ${file}`], plugins })
  try {
    await guarded.start()
    assert.equal(await guarded.sql('SELECT count(*), max(id) FROM trades'), [['1000', '1000']], 'what the file itself held')
    const { incidents } = await guarded.status()
    const incident = incidents.find(({ cause }) => cause === 'wal-not-replayable')
    assert.is(incident?.loss, 'unknown', JSON.stringify(incidents))
    assert.is(incident?.severity, 'critical')
    assert.ok(
      filesBelow(path.join(guarded.data, 'quarantine')).some((one) => digest(one) === broken),
      'the WAL is kept as it was',
    )
    await guarded.sql('INSERT INTO trades (id, broker, price) VALUES (-1, 1, 1)')
    await guarded.killEngine()
    await waitFor('the engine is back', async () => (await guarded.sql('SELECT count(*) FROM trades'))[0]?.[0] === '1001', {
      deadline: patience,
    })
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

/** Damage over which DuckDB opens the file as if nothing were missing: neither place has a checksum. */
const silentDamage: [string, (wal: Buffer) => number][] = [
  ['the size of an entry, now far too large', (wal) => (entriesOf(wal)[50] as { offset: number }).offset - 16 + 3],
  ['the type in its header', () => 2],
]
for (const [what, place] of silentDamage)
  test(`a WAL that DuckDB drops without a word is named: damaged is ${what}`, async () => {
    for (const version of [undefined, 'v1.5.0']) {
      const { file, committed } = await platformFile(100, version)
      flipBit(`${file}.wal`, place(fs.readFileSync(`${file}.wal`)), 0)
      const broken = digest(`${file}.wal`)
      const guarded = await Guarded.prepare({ engine: [`database: ${file}`], plugins })
      try {
        await guarded.start()
        assert.ok(Number((await guarded.sql('SELECT max(id) FROM trades'))[0]?.[0]) < committed, 'DuckDB has dropped them')
        const { incidents } = await guarded.status()
        assert.ok(
          incidents.some(({ loss, severity, cause }) => loss === 'unknown' && severity === 'critical' && cause === 'wal-damaged'),
          `rows are gone and nobody was told: ${JSON.stringify(incidents)}`,
        )
        const kept = filesBelow(path.join(guarded.data, 'quarantine'))
        assert.ok(
          kept.some((one) => digest(one) === broken),
          'the WAL is kept as it was',
        )
        await guarded.stop()
      } finally {
        await guarded.end()
      }
    }
  })

test('what is left of a checkpoint of the engine that was cut off is no WAL of a platform', async () => {
  const guarded = await Guarded.prepare({ plugins })
  try {
    await guarded.start()
    await guarded.sql('CREATE TABLE trades (id INTEGER)', 'INSERT INTO trades VALUES (1)')
    await guarded.stop()
    // DuckDB would refuse it: it is another database's.
    fs.writeFileSync(`${guarded.database}.wal`, checkpointNote)
    await guarded.start()
    assert.equal(await guarded.sql('SELECT id FROM trades'), [['1']])
    assert.ok(!fs.existsSync(`${guarded.database}.wal`))
    assert.not.ok(fs.existsSync(path.join(guarded.data, 'quarantine')), 'nothing was put aside')
    assert.ok(!(await guarded.status()).incidents.some(({ loss }) => loss !== 0))
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

/** A database file as a platform's death leaves it, with at least `inWal` commits in its WAL; `committed` is the last id that it was told. */
async function platformFile(inWal: number, version?: string): Promise<{ file: string; committed: number }> {
  const file = path.join(temporaryDirectory('platform'), 'platform.duckdb')
  const platform = spawnChild(process.execPath, [
    path.join(import.meta.dirname, 'support/plain-duckdb.ts'),
    file,
    ...(version === undefined ? [] : [version]),
  ])
  await waitFor(
    'the platform has committed enough',
    () => {
      if (platform.exit !== null) throw new Error(platform.output())
      return platform.stdout().split('\n').length > inWal
    },
    { deadline: patience },
  )
  await platform.kill('SIGKILL')
  assert.ok(fs.statSync(`${file}.wal`).size > 0)
  const ids = platform.stdout().split('\n').slice(0, -1)
  return { file, committed: Number(ids.at(-1)) }
}

/** The payloads of a WAL's entries: size (u64), checksum (u64), payload. The header's own length is found by trying where a chain of entries fits. */
function entriesOf(wal: Buffer): { offset: number; length: number }[] {
  for (let start = 0; start < 128; start++) {
    const entries: { offset: number; length: number }[] = []
    let at = start
    while (at + 16 <= wal.length) {
      const length = Number(wal.readBigUInt64LE(at))
      if (length === 0 || length > wal.length - at - 16) break
      entries.push({ offset: at + 16, length })
      at += 16 + length
    }
    if (entries.length > 50) return entries
  }
  throw new Error('no entries were found in the WAL')
}

async function refused(guarded: Guarded, statement: string, code: string): Promise<void> {
  const answer = await guarded.sql(statement).then(
    () => 'accepted',
    (error: { code?: string }) => error.code,
  )
  assert.is(answer, code, statement)
}

function digest(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex')
}

function filesBelow(directory: string): string[] {
  const entries = fs.readdirSync(directory, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name))
}

test.run()
