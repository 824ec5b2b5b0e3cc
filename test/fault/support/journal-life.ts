/**
 * A journal's life, recorded: batches, spills, rotation, consumers, retention, engines that are killed at any step and others that take over. And
 * what must hold of a directory in which it has been cut off.
 */

import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { type JournalRepair, repairJournal } from '../../../agent/journal/repair.ts'
import { retain } from '../../../agent/journal/retention.ts'
import { readTransactions } from '../../../agent/journal/transactions.ts'
import type { Transaction } from '../../../agent/journal/types.ts'
import type { JournalWriter } from '../../../agent/journal/writer.ts'
import { watchSteps } from '../../../agent/step.ts'
import { databaseId, encoded, openWriter, spilled } from '../../fixtures/journal.ts'
import { TestSource } from '../../fixtures/journal-source.ts'
import type { Random } from '../../support/random.ts'
import { LossyDisk } from './lossy-disk.ts'
import { assertConsumed, type Consumer, follower } from './power-cut.ts'
import { type DiskEvent, recorder } from './recorder.ts'

/** What somebody relies on: a transaction is durable, a consumer has confirmed, a verified snapshot has all up to a seq. */
export type Told = { seq: number; id: number } | { confirmed: number } | { snapshot: number }

const segmentBytes = 16 << 10
const contents = Buffer.from(Array.from({ length: 64 << 10 }, (_, i) => (i * 2_654_435_761) >>> 13))

/** The bytes of transaction `id`: of any length, with zeros at their end at times. */
function contentOf(id: number): Buffer {
  const length = ((id * 2_654_435_761) % 4_294_967_296) % (id % 7 === 0 ? 20_000 : 600)
  const bytes = Buffer.from(contents.subarray(id % 1000, (id % 1000) + length))
  return id % 5 === 0 ? bytes.fill(0, Math.floor(length / 2)) : bytes
}

class Killed extends Error {}

export class JournalLife {
  readonly events: DiskEvent[] = []
  /** As it was before. */
  readonly disk: LossyDisk
  /** What was told before. */
  readonly told: readonly Told[]
  /** Which transactions were given each seq: more than one, when a seq was given anew after one that never became durable. */
  readonly given = new Map<number, Set<number>>()
  readonly root: string
  #random: Random
  #nextId: number
  #source = new TestSource()
  #consumer: Consumer | undefined
  #untilKill = Number.POSITIVE_INFINITY
  #dead = false
  #snapshot: number

  /** `root`: has `journal`, `cursors` and `quarantine`. `before`: the life that was cut off in it, after it had told that. */
  constructor(root: string, random: Random, before?: JournalLife, told: readonly Told[] = []) {
    this.root = root
    this.disk = new LossyDisk(root)
    this.#random = random
    this.told = told
    this.#snapshot = told.findLast((what) => 'snapshot' in what)?.snapshot ?? 0
    this.#nextId = before === undefined ? 1 : before.#nextId + 100_000
    for (const [seq, ids] of before?.given ?? []) this.given.set(seq, new Set(ids))
  }

  /** Engines that end one after the other: killed, or in order. */
  async record(engines: number, steps: number): Promise<void> {
    const record = recorder({ tell: (event, label) => this.events.push({ ...event, label, pid: 0 }) })
    watchSteps((step) => {
      if (this.#dead || --this.#untilKill < 0) {
        this.#dead = true
        throw new Killed()
      }
      record(step)
    })
    try {
      for (let i = 0; i < engines; i++) await this.#engine(steps)
    } finally {
      watchSteps(() => {})
      this.#consumer?.close()
    }
  }

  /** One engine, with its consumer: from its repair to its end. */
  async #engine(steps: number): Promise<void> {
    const random = this.#random
    let writer: JournalWriter | undefined
    this.#untilKill = random.chance(0.8) ? random.int(0, steps * 8) : Number.POSITIVE_INFINITY
    try {
      const repaired = repairJournal(this.#journal, databaseId, path.join(this.root, 'quarantine'))
      assertSound(repaired)
      const epoch = repaired.epoch + (repaired.cutBytes > 0 ? 1 : 0) || 1
      writer = openWriter(this.#journal, {
        nextSeq: repaired.lastSeq + 1,
        epoch,
        segmentBytes,
        onFailure: () => {},
        onDurable: (seq) => {
          this.#source.durableSeq = seq
        },
      })
      // It serves: what it has found can be read by anybody.
      for (const { seq, id } of transactionsIn(this.#journal)) this.#tell({ seq, id })
      this.#source.epoch = epoch
      this.#source.durableSeq = repaired.lastSeq
      for (let i = 0; i < steps; i++) await this.#step(writer)
      await writer.close()
    } catch (error) {
      if (!this.#dead) throw error
      await writer?.close().catch(() => {})
    }
    this.events.push({ e: 'killed', label: 'KILL', pid: 0 })
    this.#consumer?.close()
    this.#consumer = undefined
    this.#dead = false
  }

  async #step(writer: JournalWriter): Promise<void> {
    const random = this.#random
    const what = random.float()
    if (this.#dead) throw new Killed()
    if (what < 0.6) {
      const acknowledged = Array.from({ length: random.int(1, 4) }, () => this.#append(writer))
      if (random.chance(0.5)) await Promise.all(acknowledged)
      else await setImmediate()
    } else if (what < 0.65) await this.#spill(writer)
    else if (what < 0.7) await writer.sync()
    else if (what < 0.92) await this.#consume(writer)
    else this.#retain(writer)
  }

  #append(writer: JournalWriter): Promise<void> {
    const id = this.#nextId++
    const transaction = encoded(id, contentOf(id))
    writer.reserve([transaction])
    return this.#acknowledge(writer, writer.append(transaction, id), id)
  }

  async #spill(writer: JournalWriter): Promise<void> {
    const id = this.#nextId++
    const rows = Array.from({ length: this.#random.int(1, 5) }, (_, i) => [id + i, contentOf(id + i)] as const)
    const transaction = await spilled(writer, rows)
    if (this.#random.chance(0.2)) return transaction.discard()
    const { encoded } = transaction
    writer.reserve([encoded])
    const acknowledged = this.#acknowledge(writer, writer.append(encoded, id), id)
    if (this.#random.chance(0.5)) await acknowledged
  }

  async #acknowledge(writer: JournalWriter, seq: number, id: number): Promise<void> {
    this.given.set(seq, (this.given.get(seq) ?? new Set()).add(id))
    try {
      await writer.durable(seq)
      this.#tell({ seq, id })
    } catch (error) {
      if (!this.#dead) throw error
    }
  }

  async #consume(writer: JournalWriter): Promise<void> {
    this.#consumer ??= follower({ journal: this.#journal, cursors: path.join(this.root, 'cursors') }, this.#source)
    const consumer = this.#consumer
    if (consumer.confirmed >= writer.durableSeq) return
    const options = { maxRows: this.#random.int(1, 20), maxDelayMs: 0, signal: AbortSignal.timeout(60_000) }
    const read = await consumer.read(options)
    const last = read.at(-1)?.seq ?? 0
    if (this.#random.chance(0.3)) await consumer.saveState({ first: read[0]?.seq, last })
    await consumer.confirm(last)
    this.#tell({ confirmed: last })
  }

  #retain(writer: JournalWriter): void {
    this.#snapshot = Math.max(this.#snapshot, writer.durableSeq - this.#random.int(0, 20))
    this.#tell({ snapshot: this.#snapshot })
    retain({ journalDir: this.#journal, cursors: [this.#consumer?.confirmed ?? 0], snapshots: [{ seq: this.#snapshot }] })
  }

  #tell(what: Told): void {
    if (!this.#dead) this.events.push({ e: 'told', what, label: 'TOLD', pid: 0 })
  }

  get #journal(): string {
    return path.join(this.root, 'journal')
  }
}

function assertSound({ gaps, quarantined }: JournalRepair): void {
  assert.equal({ gaps, quarantined }, { gaps: [], quarantined: [] })
}

/** Seq and id of all that is in a journal; their contents are what they were. */
function transactionsIn(journal: string): { seq: number; id: number }[] {
  return [...readTransactions(journal, 1)].map(({ seq, changes }) => ({ seq, id: idOf(changes) }))
}

function idOf(changes: Transaction['changes']): number {
  let id: number | undefined
  for (const change of changes) {
    if (change.kind !== 'insert') throw new Error(`a ${change.kind} that nobody wrote`)
    const [[row], [data]] = change.rows.columns as [[bigint], [Uint8Array]]
    id ??= Number(row)
    const expected = contentOf(Number(row))
    if (Buffer.compare(expected, data) !== 0) throw new Error(`transaction ${id} has other bytes than were written`)
  }
  return id as number
}

/** What a directory must hold in which `life` was cut off after it had told this. */
export async function assertNothingLost(root: string, life: JournalLife, told: readonly Told[]): Promise<void> {
  const journal = path.join(root, 'journal')
  const repaired = repairJournal(journal, databaseId, path.join(root, 'quarantine'))
  assertSound(repaired)
  const found = transactionsIn(journal)
  const oldest = found[0]?.seq ?? repaired.lastSeq + 1
  assert.equal(
    found.map(({ seq }) => seq),
    Array.from({ length: repaired.lastSeq - oldest + 1 }, (_, i) => oldest + i),
    'seqs come in order, without holes',
  )
  for (const { seq, id } of found) assert.ok(life.given.get(seq)?.has(id), `seq ${seq} is transaction ${id}, which was never given it`)
  const ids = new Map(found.map(({ seq, id }) => [seq, id]))
  let [confirmed, snapshot] = [0, 0]
  for (const what of [...life.told, ...told]) {
    if ('confirmed' in what) confirmed = what.confirmed
    else if ('snapshot' in what) snapshot = what.snapshot
    else if (what.seq >= oldest) assert.is(ids.get(what.seq), what.id, `seq ${what.seq} was acknowledged`)
  }
  assert.ok(
    oldest <= Math.min(confirmed, snapshot) + 1,
    `seqs before ${oldest} are gone; ${confirmed} is confirmed, and ${snapshot} in a snapshot`,
  )
  await assertConsumed({ journal, cursors: path.join(root, 'cursors'), databaseId }, confirmed, repaired)
}
