// deadline: 600s
// beside: others
// Every labelled step of taking over an existing file and its WAL: killed there, again and again. In the end the database is whole, the original kept, and nothing left over.

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { listSnapshots, verifySnapshot } from '../../agent/snapshots.ts'
import { spawnChild } from '../support/process.ts'
import { sourceCommand } from '../support/program.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { flipBit } from './support/damage.ts'
import { Guarded, patience } from './support/guarded.ts'
import { adoptionPoints, labelsOf } from './support/labels.ts'
import { filesBelow, leftovers, Victims } from './support/victims.ts'

const test = suite('adoption points')
const random = seededRandom('adoption points')
const passes = process.env.SOAK === undefined ? 1 : 10
const victims = new Victims(random)
const plugins = ['watchdog: { max_restarts: 1000 }', 'integrity-scanner: false']

for (let pass = 0; pass < passes; pass++) {
  test(`killed at each step of an adoption (pass ${pass + 1})`, async () => {
    const { file, committed } = await platformFile()
    const originals = [file, `${file}.wal`].map(digest)
    const guarded = await Guarded.prepare({ engine: [`database: ${file}`], plugins })
    guarded.program = sourceCommand()
    const snapshots = path.join(guarded.data, 'snapshots')
    const quarantine = path.join(guarded.data, 'quarantine')
    try {
      const { preparing, finishing } = adoptionPoints
      for (const [label, hits] of [...random.shuffle(Object.entries(preparing)), ...Object.entries(finishing)]) {
        const { command, args } = guarded.program
        const env = victims.killedAt(label, hits, 'adopt')
        await victims.dies(spawnChild(command, [...args, 'adopt', '-c', guarded.config], { env }))
        if (!(label in preparing)) continue
        assert.equal([file, `${file}.wal`].map(digest), originals, `nothing has changed after ${label}`)
        assert.equal([...filesBelow(snapshots), ...filesBelow(quarantine)], [], `nothing lies outside the workshop after ${label}`)
      }
      await guarded.start()
      const [[count, last] = []] = await guarded.sql('SELECT count(*), max(id) FROM trades')
      assert.is(count, last)
      assert.ok(Number(last) === committed || Number(last) === committed + 1, `${last} of ${committed}`)
      assert.equal(await guarded.sql('SELECT sum(n) FROM volume'), [[count]])
      assert.equal(
        originals.map((original) => filesBelow(quarantine).filter((one) => digest(one) === original).length),
        [1, 1],
        'file and WAL are in quarantine as they were, once',
      )
      const [snapshot, ...others] = listSnapshots(snapshots)
      assert.equal(others, [])
      assert.is(snapshot && (await verifySnapshot(snapshot)), null)
      assert.ok(!fs.existsSync(path.join(guarded.data, 'adoption')))
      assert.ok(!fs.existsSync(`${file}.wal`))
      const { incidents } = await guarded.status()
      assert.equal(
        incidents.filter(({ severity }) => severity === 'critical'),
        [],
      )
      // It is guarded as any other.
      await guarded.sql('INSERT INTO trades (id, broker, price) VALUES (-1, 1, 1)')
      await guarded.killEngine()
      await waitFor('the engine is back with the row', async () => (await guarded.sql('SELECT min(id) FROM trades'))[0]?.[0] === '-1', {
        deadline: patience,
      })
      await guarded.stop()
      assert.equal([...leftovers(guarded.data), ...leftovers(path.dirname(file))], [])
    } finally {
      await guarded.end()
    }
  })
}

test('the agent is killed while it puts back the WAL of a file that cannot be taken over: the next one puts it back', async () => {
  const file = path.join(temporaryDirectory('platform'), 'platform.duckdb')
  fs.writeFileSync(file, 'not a database')
  fs.writeFileSync(`${file}.wal`, 'its WAL')
  const guarded = await Guarded.prepare({ engine: [`database: ${file}`], plugins })
  guarded.program = sourceCommand()
  try {
    // Before it has done anything of it, then anywhere.
    for (const [label, hits] of Object.entries(adoptionPoints.refusing))
      for (const most of [1, hits]) {
        guarded.env = victims.killedAt(label, most, 'run')
        await victims.dies(guarded.startAgent())
      }
    guarded.env = {}
    guarded.startAgent()
    const { problems } = await guarded.until('the agent gives up', ({ engine }) => engine.supervision === 'gave-up')
    assert.match(problems.join('\n'), 'cannot be taken over')
    assert.is(fs.readFileSync(file, 'utf8'), 'not a database')
    assert.is(fs.readFileSync(`${file}.wal`, 'utf8'), 'its WAL')
    const kept = filesBelow(path.join(guarded.data, 'quarantine')).filter((one) => fs.readFileSync(one, 'utf8') === 'its WAL')
    assert.equal(kept, [], 'nor is it anywhere else')
  } finally {
    await guarded.end()
  }
})

/** Damage to a WAL, and what is said of it. */
const unreplayable: [cause: string, damage: (wal: string) => void][] = [
  ['wal-not-replayable', (wal) => fs.appendFileSync(wal, Buffer.alloc(4096))],
  ['wal-damaged', (wal) => flipBit(wal, 2, 0)],
]
for (const [cause, damage] of unreplayable)
  test(`the agent is killed before it can say that a WAL was lost (${cause}): the next one says it, once`, async () => {
    const { file } = await platformFile()
    damage(`${file}.wal`)
    const guarded = await Guarded.prepare({ engine: [`database: ${file}`], plugins })
    guarded.program = sourceCommand()
    try {
      guarded.env = victims.killedAt('INCIDENT:SAVE', 1, 'run')
      await victims.dies(guarded.startAgent())
      guarded.env = {}
      for (const _ of ['the next agent', 'the one after it']) {
        await guarded.start()
        const told = (await guarded.status()).incidents.filter((incident) => incident.cause === cause)
        assert.equal(
          told.map(({ loss, severity }) => [loss, severity]),
          [['unknown', 'critical']],
        )
        assert.ok(filesBelow(String(told[0]?.evidence.quarantine)).some((one) => one.endsWith('.wal')))
        await guarded.stop()
      }
    } finally {
      await guarded.end()
    }
  })

test('every step of an adoption is among them', () => {
  assert.equal(
    labelsOf(adoptionPoints).filter((label) => !victims.has(label)),
    [],
  )
})

/** A database file as a platform's death leaves it; `committed` is the last id that it was told. */
async function platformFile(): Promise<{ file: string; committed: number }> {
  const file = path.join(temporaryDirectory('platform'), 'platform.duckdb')
  const platform = spawnChild(process.execPath, [path.join(import.meta.dirname, 'support/plain-duckdb.ts'), file])
  const ids = () => platform.stdout().split('\n').slice(0, -1)
  await waitFor('the platform has committed something', () => platform.exit !== null || ids().length > 20, { deadline: patience })
  await platform.kill('SIGKILL')
  return { file, committed: Number(ids().at(-1)) }
}

function digest(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex')
}

test.run()
