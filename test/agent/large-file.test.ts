// Large files past the page cache, and through it where that is not to be had: the same bytes, and never an fsync of many at once.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openDirectly } from '../../agent/disk.ts'
import { LargeFile } from '../../agent/large-file.ts'
import { type Step, watchSteps } from '../../agent/step.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('large file')
const random = seededRandom('large file')
const label = 'TEST:COPY'
/** Two are as many as may wait in the page cache. */
const pieceBytes = 4 << 20
/** Of /proc/<pid>/fdinfo: O_DIRECT, x64 and arm64. */
const direct = { x64: 0o40000, arm64: 0o200000 }[process.arch as string] ?? 0

/** Memory that begins at a page, as a copy's does. */
function pages(bytes: number): Buffer {
  const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: new (of: { initial: number }) => { buffer: ArrayBuffer } } })
    .WebAssembly
  const memory = Buffer.from(new Memory({ initial: Math.ceil(bytes / 65536) }).buffer, 0, bytes)
  return memory.fill(Buffer.from(random.bytes(4_099)))
}

/** What happened in order: `direct` and `cached` writes, and syncs. `before` may throw. */
async function watched(work: () => Promise<void>, before: (what: string) => void = () => {}): Promise<string[]> {
  const seen: string[] = []
  watchSteps(({ kind, target }: Step) => {
    if (kind !== 'write' && kind !== 'sync') return
    const flags = /^flags:\s+(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${target}`, 'utf8'))?.[1] ?? '0'
    const what = kind === 'sync' ? kind : Number.parseInt(flags, 8) & direct ? 'direct' : 'cached'
    before(what)
    seen.push(what)
  })
  try {
    await work()
  } finally {
    watchSteps(() => {})
  }
  return seen
}

/** Of an open descriptor; nothing of one that is closed by now. */
function targetOf(fd: string): string {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

async function hasDirect(directory: string): Promise<boolean> {
  const file = path.join(directory, 'probe')
  fs.writeFileSync(file, '')
  const handle = await openDirectly(file, label)
  await handle?.close()
  return handle !== undefined
}

/** Writes `content` in pieces. */
async function write(file: string, content: Buffer): Promise<void> {
  const large = await LargeFile.create(file, label)
  try {
    for (let at = 0; at < content.length; at += pieceBytes) await large.write(content.subarray(at, at + pieceBytes), at)
    await large.sync()
  } finally {
    await large.close()
  }
}

test('whole sectors go past the page cache, a tail through it', async () => {
  const directory = temporaryDirectory('large')
  const file = path.join(directory, 'f')
  const content = pages(3 * pieceBytes + 5_000)
  const seen = await watched(() => write(file, content))
  const first = (await hasDirect(directory)) ? ['direct', 'direct', 'direct'] : ['cached', 'cached', 'sync', 'cached']
  assert.equal(seen, [...first, 'cached', 'sync'])
  assert.ok(fs.readFileSync(file).equals(content))
  assert.is(fs.statSync(file).mode & 0o777, 0o600)
})

test('memory that begins anywhere goes through the page cache', async () => {
  const file = path.join(temporaryDirectory('large'), 'f')
  const content = pages(2 * pieceBytes + 8).subarray(8)
  assert.equal(await watched(() => write(file, content)), ['cached', 'cached', 'sync', 'sync'])
  assert.ok(fs.readFileSync(file).equals(content))
})

test('where the file system refuses it, at the opening or at a write, the rest goes through the page cache', async () => {
  assert.is(await openDirectly('/proc/self/comm', label), undefined)
  const file = path.join(temporaryDirectory('large'), 'f')
  const content = pages(4 * pieceBytes)
  let writes = 0
  const refuse = (what: string) => {
    if (what === 'direct' && ++writes === 3) throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' })
  }
  const seen = await watched(() => write(file, content), refuse)
  const first = (await hasDirect(path.dirname(file))) ? ['direct', 'direct'] : ['cached', 'cached', 'sync']
  assert.equal(seen, [...first, 'cached', 'cached', 'sync', 'sync'])
  assert.ok(fs.readFileSync(file).equals(content))
})

test('a full disk is told as it is, and no file that is there already is touched', async () => {
  const directory = temporaryDirectory('large')
  const full = (what: string) => {
    if (what !== 'sync') throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })
  }
  const told = await watched(() => write(path.join(directory, 'f'), pages(pieceBytes)), full).catch(({ code }) => code)
  assert.is(told, 'ENOSPC')
  fs.writeFileSync(path.join(directory, 'there'), 'mine')
  assert.is(await LargeFile.create(path.join(directory, 'there'), label).catch(({ code }) => code), 'EEXIST')
  assert.is(fs.readFileSync(path.join(directory, 'there'), 'utf8'), 'mine')
  assert.equal(
    fs.readdirSync('/proc/self/fd').filter((fd) => targetOf(fd).startsWith(directory)),
    [],
  )
})

test.run()
