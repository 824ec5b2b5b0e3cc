import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { copyFile, digestFile, UnexpectedContentError } from '../../agent/duckfile/copy.ts'
import { blockOffset } from '../../agent/duckfile/header.ts'
import { DamagedFileError, DuckFileReader } from '../../agent/duckfile/reader.ts'
import { removeLeftovers } from '../../agent/leftovers.ts'
import { seededRandom } from '../support/random.ts'
import { contentOf, createDatabase, usedDatabase } from './database.ts'

const test = suite('duckfile copy')
const random = seededRandom('duckfile copy')
const clock = { ...systemClock, sleep: async () => {} }

function leftovers(file: string): string[] {
  return fs.readdirSync(path.dirname(file)).filter((name) => name !== path.basename(file))
}

for (const storage of ['v0.10.2', 'v1.5.0']) {
  test(`a copy of a ${storage} file has the same bytes up to the last block, and the same rows in DuckDB`, async () => {
    const file = await createDatabase(usedDatabase, { storage })
    fs.appendFileSync(file, 'garbage past the end')
    const target = `${file}.copy`
    const result = await copyFile(file, target, 'SNAPSHOT:COPY')
    const copied = fs.readFileSync(target)
    assert.is(copied.length, result.bytes)
    assert.is(createHash('sha256').update(copied).digest('hex'), result.sha256)
    assert.ok(copied.equals(fs.readFileSync(file).subarray(0, result.bytes)))
    assert.is(await contentOf(target), await contentOf(file))
    assert.equal(await digestFile(target), result)
    assert.is(fs.statSync(target).mode & 0o777, 0o600)
  })
}

test('a damaged source is not copied, and the error names the block', async () => {
  const file = await createDatabase(usedDatabase)
  const reader = await DuckFileReader.open(file, {})
  const { pages, header } = await reader.headers()
  const map = await reader.blockMap(header, pages)
  await reader.close()
  const live = Array.from({ length: map.liveEnd }, (_, block) => block).filter((block) => !map.isFree(block))
  const block = random.pick(live)
  const offset = blockOffset(header, block) + random.int(0, header.blockSize - 1)
  const fd = fs.openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  fs.readSync(fd, byte, 0, 1, offset)
  fs.writeSync(fd, Uint8Array.of((byte[0] as number) ^ 0x10), 0, 1, offset)
  fs.closeSync(fd)
  let error: unknown
  await copyFile(file, `${file}.copy`, 'SNAPSHOT:COPY', { clock }).catch((thrown) => {
    error = thrown
  })
  assert.instance(error, DamagedFileError)
  assert.is((error as DamagedFileError).damage[0]?.blockId, block)
  assert.equal(leftovers(file), [])
})

test('a copy that is not what was expected never appears', async () => {
  const file = await createDatabase(usedDatabase)
  const is = await digestFile(file)
  for (const expect of [{ sha256: '0'.repeat(64) }, { iteration: is.iteration + 1 }, { bytes: is.bytes - 1 }]) {
    let error: unknown
    await copyFile(file, `${file}.copy`, 'SNAPSHOT:COPY', { expect }).catch((thrown) => {
      error = thrown
    })
    assert.instance(error, UnexpectedContentError)
    assert.equal(leftovers(file), [])
  }
  assert.equal(await copyFile(file, `${file}.copy`, 'SNAPSHOT:COPY', { expect: is }), is)
})

test('a stopped copy leaves nothing behind', async () => {
  const file = await createDatabase(usedDatabase)
  const abort = new AbortController()
  let sleeps = 0
  const slow = { ...systemClock, sleep: async () => void (++sleeps === 3 && abort.abort()) }
  let error: unknown
  await copyFile(file, `${file}.copy`, 'SNAPSHOT:COPY', { maxBytesPerSecond: 1000, clock: slow, signal: abort.signal }).catch((thrown) => {
    error = thrown
  })
  assert.match((error as Error).message, /stopped/)
  assert.equal(leftovers(file), [])
})

test('what killed copies left behind goes, whatever is under way stays', async () => {
  const file = await createDatabase(usedDatabase)
  const directory = path.dirname(file)
  // Of a process that is dead, of a former process with our pid, of a living process.
  for (const pid of [2 ** 22 + 1, process.pid, process.ppid]) fs.writeFileSync(`${file}.copy.${pid}.tmp`, 'half')
  let seen: string[] = []
  const during = {
    ...systemClock,
    sleep: async () => {
      removeLeftovers(directory)
      seen = leftovers(file)
    },
  }
  await copyFile(file, `${file}.copy`, 'SNAPSHOT:COPY', { clock: during, maxBytesPerSecond: 1e6 })
  assert.equal(seen.sort(), [`test.duckdb.copy.${process.pid}.tmp`, `test.duckdb.copy.${process.ppid}.tmp`].sort())
  assert.equal(leftovers(file).sort(), ['test.duckdb.copy', `test.duckdb.copy.${process.ppid}.tmp`])
})

test.run()
