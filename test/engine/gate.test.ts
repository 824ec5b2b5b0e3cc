// Who waits for whom at the gate of writers, in which order, and for how long at most.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Pass, WriterGate } from '../../agent/engine/gate.ts'
import { codeOf } from '../support/engine.ts'

const test = suite('gate')

/** ms; never waited for. */
const long = 60_000

class Stage {
  readonly gate = new WriterGate()
  /** What has happened, in order. */
  readonly events: string[] = []

  /** Comes to the gate; `in`, `out` or an SQLSTATE is noted when it is decided. */
  comes(name: string, mode: 'shared' | 'exclusive', patience = long, pass: Pass = { mode: 'none' }, signal?: AbortSignal): Guest {
    const entered = codeOf(this.gate.enter(pass, mode, patience, signal)).then((code) => {
      this.events.push(`${name} ${code ?? 'in'}`)
    })
    return { pass, entered, leaves: () => this.gate.leave(pass) }
  }

  /** What has happened so far, once everybody has had a turn. */
  async seen(): Promise<string[]> {
    await new Promise((resolve) => setImmediate(resolve))
    return this.events.splice(0)
  }
}

interface Guest {
  readonly pass: Pass
  readonly entered: Promise<void>
  leaves(): void
}

test('writers go in together; who must be alone waits for them, and holds up those who come after', async () => {
  const stage = new Stage()
  const [a, b] = [stage.comes('a', 'shared'), stage.comes('b', 'shared')]
  const alone = stage.comes('checkpoint', 'exclusive')
  const [c, d] = [stage.comes('c', 'shared'), stage.comes('d', 'shared')]
  assert.equal(await stage.seen(), ['a in', 'b in'])
  a.leaves()
  assert.equal(await stage.seen(), [])
  b.leaves()
  assert.equal(await stage.seen(), ['checkpoint in'])
  alone.leaves()
  assert.equal(await stage.seen(), ['c in', 'd in'])
  c.leaves()
  d.leaves()
  assert.ok(stage.gate.idle)
})

test('a checkpoint that gives up lets all those in whom it held up, before their own time is over', async () => {
  const stage = new Stage()
  const open = stage.comes('open', 'shared')
  const checkpoint = stage.comes('checkpoint', 'exclusive', 30)
  // As patient as the checkpoint, and came later: none of them may fail because of it.
  const held = ['a', 'b', 'c'].map((name) => stage.comes(name, 'shared', 30))
  await Promise.all([checkpoint, ...held].map(({ entered }) => entered))
  assert.equal(await stage.seen(), ['open in', 'checkpoint 55P03', 'a in', 'b in', 'c in'])
  open.leaves()
})

test('with a schema change behind the checkpoint, writers wait for either no longer than for one', async () => {
  const stage = new Stage()
  const open = stage.comes('open', 'shared')
  const waiting = [
    stage.comes('checkpoint', 'exclusive', 30),
    stage.comes('schema change', 'exclusive', 30),
    stage.comes('writer', 'shared', 30),
  ]
  await Promise.all(waiting.map(({ entered }) => entered))
  assert.equal(await stage.seen(), ['open in', 'checkpoint 55P03', 'schema change 55P03', 'writer in'])
  open.leaves()
})

test('a schema change that is less patient than the checkpoint before it gives up first, and harms nobody', async () => {
  const stage = new Stage()
  const open = stage.comes('open', 'shared')
  const checkpoint = stage.comes('checkpoint', 'exclusive')
  const change = stage.comes('schema change', 'exclusive', 10)
  const writer = stage.comes('writer', 'shared')
  await change.entered
  assert.equal(await stage.seen(), ['open in', 'schema change 55P03'])
  open.leaves()
  assert.equal(await stage.seen(), ['checkpoint in'])
  checkpoint.leaves()
  assert.equal(await stage.seen(), ['writer in'])
  writer.leaves()
})

test('a raised pass goes before the checkpoint that it holds up', async () => {
  const stage = new Stage()
  const open = stage.comes('open', 'shared')
  const checkpoint = stage.comes('checkpoint', 'exclusive')
  const raised = stage.comes('open, to change the schema', 'exclusive', long, open.pass)
  assert.equal(await stage.seen(), ['open in', 'open, to change the schema in'])
  raised.leaves()
  assert.equal(await stage.seen(), ['checkpoint in'])
  checkpoint.leaves()
})

test('a pass that is raised while a checkpoint waits does not hold up the writers that came before it any longer', async () => {
  const stage = new Stage()
  const [open, other] = [stage.comes('open', 'shared'), stage.comes('other', 'shared')]
  const checkpoint = stage.comes('checkpoint', 'exclusive', 30)
  const writer = stage.comes('writer', 'shared', 30)
  const raised = stage.comes('raised', 'exclusive', long, open.pass)
  const later = stage.comes('later', 'shared')
  await Promise.all([checkpoint.entered, writer.entered])
  assert.equal(await stage.seen(), ['open in', 'other in', 'checkpoint 55P03', 'writer in'])
  other.leaves()
  assert.equal(await stage.seen(), [])
  writer.leaves()
  assert.equal(await stage.seen(), ['raised in'])
  raised.leaves()
  assert.equal(await stage.seen(), ['later in'])
  later.leaves()
})

test('of two that raise their passes the second fails at once', async () => {
  const stage = new Stage()
  const [one, two] = [stage.comes('one', 'shared'), stage.comes('two', 'shared')]
  stage.comes('one raised', 'exclusive', long, one.pass)
  await stage.comes('two raised', 'exclusive', long, two.pass).entered
  assert.equal(await stage.seen(), ['one in', 'two in', 'two raised 40001'])
  two.leaves()
  assert.equal(await stage.seen(), ['one raised in'])
  one.leaves()
})

test('who is stopped while it waits holds nobody up any more', async () => {
  const stage = new Stage()
  const open = stage.comes('open', 'shared')
  const stop = new AbortController()
  const change = stage.comes('schema change', 'exclusive', long, undefined, stop.signal)
  const writer = stage.comes('writer', 'shared')
  stop.abort(Object.assign(new Error('cancelled'), { code: '57014' }))
  await change.entered
  assert.equal(await stage.seen(), ['open in', 'schema change 57014', 'writer in'])
  // Nor does one that was stopped before it came.
  await stage.comes('late', 'exclusive', long, undefined, stop.signal).entered
  assert.equal(await stage.seen(), ['late 57014'])
  open.leaves()
  writer.leaves()
})

test('who waited in vain is told whether others wrote, or a schema change or a checkpoint was under way', async () => {
  const gate = new WriterGate()
  const pass: Pass = { mode: 'none' }
  const told = (mode: 'shared' | 'exclusive') =>
    gate.enter({ mode: 'none' }, mode, 1).then(
      () => '',
      (error: Error) => error.message,
    )
  await gate.enter(pass, 'shared', long)
  assert.match(await told('exclusive'), /other transactions with changes stayed open for 1 ms/)
  gate.leave(pass)
  await gate.enter(pass, 'exclusive', long)
  assert.match(await told('shared'), /a schema change or a checkpoint was under way for 1 ms/)
  gate.leave(pass)
})

test.run()
