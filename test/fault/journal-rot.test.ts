// deadline: 240s
// beside: others
// A flipped bit in the journal is an incident, never a crash loop: the segment goes to quarantine, the engine serves, and what is gone is named.

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { SegmentReader } from '../../agent/journal/reader.ts'
import { listSegments } from '../../agent/journal/segment.ts'
import type { Incident } from '../../agent/plugin.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'
import { flipBit } from './support/damage.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('journal rot')
const never = '0 0 1 1 *'
const plugins = [
  'watchdog: { max_restarts: 3 }',
  'checkpointer: { every_transactions: 1000000 }',
  `integrity-scanner: { schedule: "${never}", snapshots: { schedule: "${never}" } }`,
]

interface Batch {
  file: string
  offset: number
  length: number
  firstSeq: number
  lastSeq: number
}

test('rot in a segment that the database file is past costs nothing, and a new snapshot is taken at once', async () => {
  const random = seededRandom('rot behind')
  const guarded = await Guarded.prepare({ plugins })
  try {
    await guarded.start()
    await fill(guarded)
    assert.is((await guarded.command('checkpoint')).code, 0)
    await insert(guarded, 100, 105)
    const [watermark, durableSeq] = [31, 37]
    await guarded.until(
      'what was written is known',
      ({ engine: { status } }) => status?.watermark === watermark && status.durableSeq === durableSeq,
    )
    const batch = random.pick(batchesOf(guarded).filter(({ lastSeq }) => lastSeq <= watermark))
    const rotten = rot(batch, random)
    await guarded.killEngine()
    const incident = await served(guarded)
    assert.is(incident.loss, 0, JSON.stringify(incident))
    assert.ok(quarantinedAs(guarded, rotten), 'the segment is kept as it was')
    assert.equal(await guarded.sql('SELECT id FROM t ORDER BY id'), rows(0, 105))
    await waitFor(
      'a snapshot is taken at once',
      async () => {
        const { stdout } = await guarded.command('snapshot', 'list', '--json')
        return stdout.includes(`"seq": ${durableSeq}`) || stdout.includes(`"seq":${durableSeq}`)
      },
      { deadline: patience },
    )
    await goesOn(guarded, 106)
  } finally {
    await guarded.end()
  }
})

test('rot in a segment that the database file needs is named by its exact seqs; everything else is there', async () => {
  const random = seededRandom('rot ahead')
  const guarded = await Guarded.prepare({ plugins })
  try {
    await guarded.start()
    const seqs = await fill(guarded)
    const batch = random.pick(batchesOf(guarded).filter(({ firstSeq }) => firstSeq > 1))
    const rotten = rot(batch, random)
    const verify = await guarded.command('journal', 'verify')
    assert.is(verify.code, 1, verify.stdout)
    await guarded.killEngine()
    const incident = await served(guarded)
    assert.is(incident.severity, 'critical')
    assert.equal(lossSeqs(incident), [batch.firstSeq, batch.lastSeq])
    assert.ok(quarantinedAs(guarded, rotten), 'the segment is kept as it was')
    const expected = [...seqs].filter(([, seq]) => seq < batch.firstSeq || seq > batch.lastSeq).map(([id]) => [String(id)])
    assert.equal(await guarded.sql('SELECT id FROM t ORDER BY id'), expected)
    await goesOn(guarded, 100)
  } finally {
    await guarded.end()
  }
})

test('rot in the last acknowledged batch is not taken for a torn write', async () => {
  const random = seededRandom('rot at the end')
  const guarded = await Guarded.prepare({ plugins })
  try {
    await guarded.start()
    const seqs = await fill(guarded)
    await Promise.all([guarded.killAgent(), guarded.killEngine()])
    const batch = batchesOf(guarded).at(-1) as Batch
    rot(batch, random)
    await guarded.start()
    const incident = await served(guarded)
    assert.equal(lossSeqs(incident), [batch.firstSeq, batch.lastSeq])
    const expected = [...seqs].filter(([, seq]) => seq < batch.firstSeq).map(([id]) => [String(id)])
    assert.equal(await guarded.sql('SELECT id FROM t ORDER BY id'), expected)
    await goesOn(guarded, 100)
    const reused = batchesOf(guarded).filter(({ firstSeq, lastSeq }) => firstSeq <= batch.lastSeq && lastSeq >= batch.firstSeq)
    assert.equal(reused, [], 'lost seqs are not given again')
  } finally {
    await guarded.end()
  }
})

test('rot in the header of an old segment costs nothing', async () => {
  const random = seededRandom('rot in a header')
  const guarded = await Guarded.prepare({ plugins })
  try {
    await guarded.start()
    await fill(guarded)
    const [segment] = listSegments(path.join(guarded.data, 'journal'))
    // Within what the header's checksum covers, and the checksum itself.
    flipBit(segment?.file as string, random.int(0, 127), random.int(0, 7))
    await guarded.killEngine()
    const incident = await served(guarded)
    assert.is(incident.loss, 0, JSON.stringify(incident))
    assert.equal(await guarded.sql('SELECT id FROM t ORDER BY id'), rows(0, 29))
    await goesOn(guarded, 100)
  } finally {
    await guarded.end()
  }
})

/** 30 rows over three segments, one per transaction; resolves with each row's seq. */
async function fill(guarded: Guarded): Promise<Map<number, number>> {
  await guarded.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, note VARCHAR)')
  const seqs = new Map<number, number>()
  for (let part = 0; part < 3; part++) {
    for (let id = part * 10; id < part * 10 + 10; id++) {
      await insert(guarded, id, id)
      seqs.set(id, id + 2) // seq 1 is the table
    }
    if (part === 2) break
    await guarded.killEngine()
    await waitFor('the engine is back', async () => (await guarded.sql('SELECT 1')).length === 1, { deadline: patience })
  }
  await guarded.until('what was written is known', ({ engine }) => engine.status?.durableSeq === 31)
  assert.ok(listSegments(path.join(guarded.data, 'journal')).length >= 3)
  return seqs
}

async function insert(guarded: Guarded, first: number, last: number): Promise<void> {
  for (let id = first; id <= last; id++) await guarded.sql(`INSERT INTO t VALUES (${id}, 'note ${id}')`)
}

function rows(first: number, last: number): string[][] {
  const ids = Array.from({ length: last + 1 }, (_, id) => id).filter((id) => id >= first && (id < 30 || id >= 100))
  return ids.map((id) => [String(id)])
}

/** Every batch of the journal, in order. */
function batchesOf(guarded: Guarded): Batch[] {
  const found: Batch[] = []
  for (const { file } of listSegments(path.join(guarded.data, 'journal'))) {
    const reader = new SegmentReader(file)
    try {
      for (let result = reader.next(); result.kind === 'batch'; result = reader.next()) {
        const { length, firstSeq, count } = result.header
        found.push({ file, offset: result.offset, length, firstSeq, lastSeq: firstSeq + count - 1 })
      }
    } finally {
      reader.close()
    }
  }
  return found
}

/** Flips one bit of a batch, any of them; resolves with the segment's digest. */
function rot(batch: Batch, random: Random): string {
  const offset = batch.offset + random.int(0, batch.length - 1)
  const bit = random.int(0, 7)
  process.stdout.write(`[bit ${bit} at ${offset} of ${path.basename(batch.file)}, seq ${batch.firstSeq}] `)
  flipBit(batch.file, offset, bit)
  return digest(batch.file)
}

/** Waits until the engine serves and the damage is on record; resolves with its incident. */
async function served(guarded: Guarded): Promise<Incident> {
  const about = ({ message, actions, evidence }: Incident) =>
    /journal|quarantin/i.test(`${message} ${actions.join(' ')} ${JSON.stringify(evidence)}`)
  const found = (incidents: Incident[]) =>
    incidents.find((incident) => incident.severity === 'critical' && about(incident) && incident.closedAt !== null)
  const { incidents, engine } = await guarded.until(
    'the engine serves and the damage is on record',
    ({ engine, incidents }) => engine.state === 'up' && found(incidents) !== undefined,
  )
  assert.is(engine.state, 'up')
  return found(incidents) as Incident
}

function lossSeqs({ loss }: Incident): unknown {
  return typeof loss === 'object' ? [loss.firstSeq, loss.lastSeq] : loss
}

/** Writes on, is killed and comes back: what was repaired stays repaired. */
async function goesOn(guarded: Guarded, first: number): Promise<void> {
  const [[before] = []] = await guarded.sql('SELECT count(*) FROM t')
  const after = String(Number(before) + 5)
  await insert(guarded, first, first + 4)
  await guarded.killEngine()
  await waitFor('the engine is back', async () => (await guarded.sql('SELECT count(*) FROM t'))[0]?.[0] === after, { deadline: patience })
  await guarded.stop()
  await guarded.start()
  assert.equal(await guarded.sql('SELECT count(*) FROM t'), [[after]])
  await guarded.until('no incident is open', ({ incidents }) => incidents.every(({ closedAt }) => closedAt !== null))
  await guarded.stop()
}

function quarantinedAs(guarded: Guarded, expected: string): boolean {
  const directory = path.join(guarded.data, 'quarantine')
  const entries = fs.existsSync(directory) ? fs.readdirSync(directory, { recursive: true, withFileTypes: true }) : []
  return entries.some((entry) => entry.isFile() && digest(path.join(entry.parentPath, entry.name)) === expected)
}

function digest(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex')
}

test.run()
