// deadline: 240s
// Many clients at once, every way in, keys that meet: what was told "failed" is nowhere, what was acknowledged is there, and no child is
// without its parent (R1, R4); a replay gives the same (R6). ROUNDS operations of each client (default 120); SEED repeats the choices.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { difference, stateOf } from './support/state.ts'

const test = suite('concurrent clients')
const operations = Number(process.env.ROUNDS ?? (process.env.SOAK === undefined ? 120 : 2000))
const clientCount = 10
const parents = 40

/** Ordinary ways to lose against another client, or against a constraint. */
const ordinary = new Set(['23505', '23503', '23514', '40001'])

/** Every row carries a tag that says which operation wrote it, into which table: `child:w3-17`. Only parents are ever deleted. */
interface Operation {
  readonly tags: readonly string[]
  readonly code: string | undefined
}

class Worker {
  readonly done: Operation[] = []
  #name: string
  #client: pg.Client
  #random: Random
  #next = 0

  constructor(name: string, client: pg.Client, random: Random) {
    this.#name = name
    this.#client = client
    this.#random = random
  }

  async run(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.#operation()
  }

  async #operation(): Promise<void> {
    const random = this.#random
    const tags: string[] = []
    const tag = (table: string) => {
      const text = `${table}:${this.#name}-${this.#next++}`
      tags.push(text)
      return text
    }
    let code: string | undefined
    try {
      if (random.chance(0.75)) await this.#statement(tag)
      else await this.#transaction(tag)
    } catch (error) {
      code = (error as { code?: string }).code ?? 'none'
      if (!ordinary.has(code)) throw error
    }
    this.done.push({ tags, code })
  }

  async #transaction(tag: (table: string) => string): Promise<void> {
    await this.#client.query('BEGIN')
    try {
      for (let i = this.#random.int(1, 4); i > 0; i--) await this.#statement(tag)
      await this.#client.query('COMMIT')
    } catch (error) {
      await this.#client.query('ROLLBACK')
      throw error
    }
  }

  async #statement(tag: (table: string) => string): Promise<void> {
    const { int, pick } = this.#random
    const id = int(1, parents)
    const bound = (text: string, ...values: unknown[]) => this.#client.query({ name: text, text, values })
    const typed = (text: string) => this.#client.query(text)
    const statements: (() => Promise<unknown>)[] = [
      () => bound('INSERT INTO parent (id, tag) VALUES ($1, $2)', id, tag('parent')),
      () => bound('INSERT INTO child (tag, parent, size) VALUES ($1, $2, $3)', tag('child'), id, int(1, 10)),
      () => bound('INSERT INTO child (tag, parent, size) VALUES ($1, $2, $3)', tag('child'), id, int(1, 10)),
      // CHECK (size < 10)
      () => bound('INSERT INTO child (tag, parent, size) VALUES ($1, $2, $3)', tag('child'), null, int(9, 11)),
      () => bound('INSERT INTO log VALUES ($1)', tag('log')),
      () => typed(`INSERT INTO child VALUES ('${tag('child')}', ${id}, 1), ('${tag('child')}', ${int(1, parents)}, ${int(8, 10)})`),
      () => typed(`INSERT INTO log VALUES ('${tag('log')}'); INSERT INTO parent VALUES (${id}, '${tag('parent')}')`),
      () => typed(`INSERT INTO parent VALUES (${id}, '${tag('parent')}') ON CONFLICT DO NOTHING`),
      () => typed(`DELETE FROM parent WHERE id = ${id}`),
      () => typed(`UPDATE child SET size = ${int(1, 10)} WHERE parent = ${id}`),
      () => typed(`UPDATE child SET parent = ${int(1, parents)} WHERE parent = ${id} AND size < 3`),
    ]
    await pick(statements)()
  }
}

test('what failed left nothing, what was acknowledged is there, and a replay gives the same', async () => {
  const random = seededRandom('concurrent')
  const engine = await TestEngine.start()
  try {
    await engine.sql(`
      CREATE TABLE parent (id INTEGER PRIMARY KEY, tag VARCHAR UNIQUE);
      CREATE TABLE child (tag VARCHAR PRIMARY KEY, parent INTEGER REFERENCES parent (id), size INTEGER CHECK (size < 10));
      CREATE TABLE log (tag VARCHAR)`)
    const clients = await Promise.all(Array.from({ length: clientCount }, () => engine.connect()))
    const workers = clients.map((client, i) => new Worker(`w${i}`, client, seededRandom(`w${i}`, random.int(0, 2 ** 31))))
    await Promise.all(workers.map((worker) => worker.run(operations)))

    const reader = await engine.connect()
    const there = new Set(
      (await rowsOf(reader, 'SELECT tag FROM parent UNION ALL FROM (SELECT tag FROM child) UNION ALL FROM log')).map(([tag]) => tag),
    )
    const all = workers.flatMap(({ done }) => done)
    const failed = all.filter(({ code }) => code !== undefined)
    process.stdout.write(`[${all.length} operations, failed: ${JSON.stringify(countOf(failed.map(({ code }) => code as string)))}] `)
    assert.equal(
      failed.flatMap(({ tags }) => tags).filter((tag) => there.has(tag)),
      [],
      'rows of operations that were told "failed"',
    )
    for (const code of ordinary)
      assert.ok(
        failed.some((operation) => operation.code === code),
        `${code} occurred`,
      )
    assert.equal(
      all
        .filter(({ code }) => code === undefined)
        .flatMap(({ tags }) => tags.filter((tag) => !tag.startsWith('parent:') && !there.has(tag))),
      [],
      'rows that were acknowledged',
    )
    const orphans = await rowsOf(reader, 'SELECT tag FROM child WHERE parent IS NOT NULL AND parent NOT IN (SELECT id FROM parent)')
    assert.equal(orphans, [])

    const live = await stateOf(reader)
    await engine.restart()
    assert.equal([engine.control.hello.recovery.refused, engine.control.hello.recovery.gaps], [[], []])
    assert.is(difference(live, await stateOf(await engine.connect())), '')
  } finally {
    await engine.kill()
  }
})

function countOf(codes: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const code of codes) counts[code] = (counts[code] ?? 0) + 1
  return counts
}

test.run()
