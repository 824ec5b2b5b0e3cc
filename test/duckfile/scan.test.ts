import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { takeChecksumBuffer } from '../../agent/duckfile/checksum.ts'
import { blockOffset, headerBytes } from '../../agent/duckfile/header.ts'
import { DuckFileReader } from '../../agent/duckfile/reader.ts'
import { scanFile } from '../../agent/duckfile/scan.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { createDatabase, tradesTable, usedDatabase, withDatabase } from './database.ts'

const test = suite('duckfile scan')
const random = seededRandom('duckfile scan')
/** Second looks at damage wait for nothing here: nobody writes. */
const clock = { ...systemClock, sleep: async () => {} }
const scan = (file: string) => scanFile(file, { clock })

/** A small file with many live and some free blocks. */
const small = [
  'CREATE TABLE a AS SELECT i, md5(i::VARCHAR) AS t FROM range(200000) r(i)',
  'CREATE TABLE b AS FROM a',
  'CHECKPOINT',
  'DROP TABLE a',
  'CREATE TABLE c (i INTEGER)',
  'INSERT INTO c VALUES (1)',
  'CHECKPOINT',
]

async function layoutOf(file: string) {
  const reader = await DuckFileReader.open(file, {})
  try {
    const { pages, header } = await reader.headers()
    return { header, map: await reader.blockMap(header, pages) }
  } finally {
    await reader.close()
  }
}

/** Flips one random bit of the byte at `offset`, runs `work`, and flips it back. */
async function withFlip<T>(file: string, offset: number, work: () => Promise<T>): Promise<T> {
  const bit = 1 << random.int(0, 7)
  const flip = () => {
    const fd = fs.openSync(file, 'r+')
    const byte = Buffer.alloc(1)
    fs.readSync(fd, byte, 0, 1, offset)
    fs.writeSync(fd, Uint8Array.of((byte[0] as number) ^ bit), 0, 1, offset)
    fs.closeSync(fd)
  }
  flip()
  try {
    return await work()
  } finally {
    flip()
  }
}

test('the checksum is the one of a plain reading of its definition', () => {
  const buffer = takeChecksumBuffer()
  for (const length of [16, 24, 4096, 16384, 262144]) {
    const at = random.int(0, 8) * 8
    random.bytes(4096).forEach((byte, i) => {
      for (let k = i; k < length; k += 4096) buffer.bytes[at + k] = byte ^ (k >> 12)
    })
    let sum = 5381n
    for (let p = at + 8; p < at + length; p += 8) sum ^= BigInt.asUintN(64, buffer.bytes.readBigUInt64LE(p) * 0xbf58476d1ce4e5b9n)
    assert.is(buffer.check(at, length).found, sum)
  }
})

test('scans side by side have buffers of their own; one that has ended leaves its own to the next', async () => {
  const file = await createDatabase(usedDatabase)
  const [one, other] = [await DuckFileReader.open(file, {}), await DuckFileReader.open(file, {})]
  assert.is.not(one.buffer, other.buffer)
  const { buffer } = one
  await one.close()
  const next = await DuckFileReader.open(file, {})
  assert.is(next.buffer, buffer)
  await next.close()
  await other.close()
})

for (const storage of ['v0.10.2', 'v1.2.0', 'v1.5.0']) {
  test(`a file of storage version ${storage} with indexes, deletes and free blocks is clean, and as many blocks are live as DuckDB says`, async () => {
    let used = 0
    const file = await createDatabase(usedDatabase, { storage })
    await withDatabase(
      file,
      async (connection) => {
        const size = await connection.runAndReadAll(
          "SELECT used_blocks, total_blocks FROM pragma_database_size() WHERE database_name = 'd'",
        )
        used = Number(size.getRows()[0]?.[0])
      },
      { attach: ', READ_ONLY', storage },
    )
    const result = await scan(file)
    assert.is(result.verdict, 'clean', result.reason)
    assert.is(result.liveBlocks, used)
    assert.ok(result.liveBlocks < (result.databaseHeader?.blockCount ?? 0), 'the file was to have free blocks')
    assert.is(result.databaseHeader?.storage, storage)
  })
}

test('a file that was upgraded in place is clean', async () => {
  const file = await createDatabase(small, { storage: 'v0.10.2' })
  await withDatabase(
    file,
    async (connection) => {
      for (const statement of ['INSERT INTO c VALUES (2)', 'CHECKPOINT']) await connection.run(statement)
    },
    { storage: 'v1.5.0' },
  )
  const result = await scan(file)
  assert.is(result.verdict, 'clean', result.reason)
  assert.is(result.databaseHeader?.version, 65)
})

test('a file without any content is clean', async () => {
  const result = await scanFile(await createDatabase([]))
  assert.is(result.verdict, 'clean')
  assert.is(result.liveBlocks, 0)
})

test('one flipped bit in any live block is found, and named', async () => {
  const file = await createDatabase(small)
  const { header, map } = await layoutOf(file)
  assert.ok(map.live >= 8 && map.free.length >= 2, `${map.live} live, ${map.free.length} free`)
  for (let block = 0; block < map.liveEnd; block++) {
    if (map.isFree(block)) continue
    const offset = blockOffset(header, block) + random.int(0, header.blockSize - 1)
    const result = await withFlip(file, offset, () => scan(file))
    assert.is(result.verdict, 'damaged', `byte ${offset} of block ${block}`)
    assert.equal(
      result.damage.map(({ blockId, kind, offset }) => ({ blockId, kind, offset })),
      [{ blockId: block, kind: map.metadata.has(block) ? 'metadata block' : 'data block', offset: blockOffset(header, block) }],
    )
  }
  assert.is((await scan(file)).verdict, 'clean')
})

test('one flipped bit anywhere in the main header, h1 or h2 is found', async () => {
  const file = await createDatabase(small)
  const offsets = [0, 7, 8, 11, 12, 19, 20, 4095, 4096, 4104, 8191, 8192, 8200, 12287]
  for (let i = 0; i < 20; i++) offsets.push(random.int(0, headerBytes - 1))
  for (const offset of offsets) {
    const result = await withFlip(file, offset, () => scan(file))
    assert.is(result.verdict, 'damaged', `byte ${offset}`)
    assert.is(result.damage[0]?.kind, offset < 4096 ? 'main header' : 'header')
  }
})

test('flips in free blocks and past the last block are no damage', async () => {
  const file = await createDatabase(small)
  const { header, map } = await layoutOf(file)
  fs.appendFileSync(file, Buffer.from(random.bytes(5000)))
  const offsets = map.free.map((block) => blockOffset(header, block) + random.int(0, header.blockSize - 1))
  offsets.push(blockOffset(header, header.blockCount) + random.int(0, 4000))
  for (const offset of offsets) {
    const result = await withFlip(file, offset, () => scan(file))
    assert.is(result.verdict, 'clean', `byte ${offset}: ${result.reason}`)
  }
})

test('a file cut anywhere before the end of its last live block is damaged, cut after it is not', async () => {
  const file = await createDatabase(small)
  const { header, map } = await layoutOf(file)
  const bytes = fs.readFileSync(file)
  const end = blockOffset(header, map.liveEnd)
  for (const size of [end - 1, random.int(headerBytes, end - 1), headerBytes, headerBytes - 1, 4096, 1, 0]) {
    fs.writeFileSync(file, bytes.subarray(0, size))
    const result = await scan(file)
    assert.is(result.verdict, 'damaged', `cut to ${size} bytes`)
    assert.ok(
      result.damage.some(({ kind }) => kind === 'truncated'),
      JSON.stringify(result.damage),
    )
  }
  fs.writeFileSync(file, bytes.subarray(0, end))
  assert.is((await scan(file)).verdict, 'clean')
})

test('a zeroed and a lost block are found together', async () => {
  const file = await createDatabase(small)
  const { header, map } = await layoutOf(file)
  const live = Array.from({ length: map.liveEnd }, (_, block) => block).filter((block) => !map.isFree(block) && !map.metadata.has(block))
  const fd = fs.openSync(file, 'r+')
  for (const block of live.slice(0, 2)) fs.writeSync(fd, Buffer.alloc(header.blockSize), 0, header.blockSize, blockOffset(header, block))
  fs.closeSync(fd)
  const result = await scan(file)
  assert.equal(
    result.damage.map(({ blockId }) => blockId),
    live.slice(0, 2),
  )
  assert.match(result.reason ?? '', /and 1 more/)
})

test('a free list that makes no sense is damage, although its checksums hold', async () => {
  // Small blocks have small sub-blocks: the list spans several.
  const file = await createDatabase(usedDatabase, { blockSize: 16384 })
  const { header } = await layoutOf(file)
  const block = Number(header.freeList & 0x00ff_ffff_ffff_ffffn)
  const start = 8 + Number(header.freeList >> 56n) * 248
  const offset = blockOffset(header, block)
  const buffer = takeChecksumBuffer()
  const word = (index: number, value: bigint | number) => buffer.bytes.writeBigUInt64LE(BigInt(value), start + index * 8)
  const fillAscending = () => {
    word(1, header.blockCount)
    for (let i = 2; i < 31; i++) word(i, i)
  }
  const changes: Record<string, () => void> = {
    'claims 99999 free blocks': () => word(1, 99_999),
    [`names free block ${header.blockCount} of`]: () => word(2, header.blockCount),
    'names free block 1 after 1': () => {
      word(2, 1)
      word(3, 1)
    },
    'does not exist': () => {
      word(0, header.blockCount)
      fillAscending()
    },
    'ends in the middle': () => {
      word(0, 0xffff_ffff_ffff_ffffn)
      fillAscending()
    },
    'runs in a circle': () => {
      word(0, header.freeList)
      fillAscending()
    },
  }
  const fd = fs.openSync(file, 'r+')
  for (const [words, change] of Object.entries(changes)) {
    fs.readSync(fd, buffer.bytes, 0, header.blockSize, offset)
    const before = Buffer.from(buffer.bytes.subarray(0, header.blockSize))
    change()
    buffer.bytes.writeBigUInt64LE(buffer.check(0, header.blockSize).found, 0)
    fs.writeSync(fd, buffer.bytes, 0, header.blockSize, offset)
    const result = await scan(file)
    assert.is(result.verdict, 'damaged', words)
    assert.is(result.damage[0]?.kind, 'free list')
    assert.ok(result.damage[0]?.found.includes(words), `${result.damage[0]?.found}, not ${words}`)
    fs.writeSync(fd, before, 0, header.blockSize, offset)
  }
  fs.closeSync(fd)
  assert.is((await scan(file)).verdict, 'clean')
})

test('what this reader does not know is inconclusive, never clean', async () => {
  const directory = temporaryDirectory('duckfile')
  assert.is((await scanFile(path.join(directory, 'missing'))).verdict, 'inconclusive')
  assert.is((await scanFile(directory)).verdict, 'inconclusive')
  const file = await createDatabase(small)
  const buffer = takeChecksumBuffer()
  const rewriteMain = (change: (page: Buffer) => void) => {
    const fd = fs.openSync(file, 'r+')
    fs.readSync(fd, buffer.bytes, 0, 4096, 0)
    change(buffer.bytes)
    buffer.bytes.writeBigUInt64LE(buffer.check(0, 4096).found, 0)
    fs.writeSync(fd, buffer.bytes, 0, 4096, 0)
    fs.closeSync(fd)
  }
  rewriteMain((page) => page.writeBigUInt64LE(70n, 12))
  const unknown = await scan(file)
  assert.is(unknown.verdict, 'inconclusive')
  assert.match(unknown.reason ?? '', /storage version 70/)
  rewriteMain((page) => page.writeBigUInt64LE(68n, 12))
  const stopped = await scanFile(file, { signal: AbortSignal.abort() })
  assert.is(stopped.verdict, 'inconclusive')
  assert.match(stopped.reason ?? '', /stopped/)
})

test('an encrypted file is inconclusive, and says why', async () => {
  const file = path.join(temporaryDirectory('duckfile'), 'secret.duckdb')
  const { DuckDBInstance } = await import('@duckdb/node-api')
  const instance = await DuckDBInstance.create(':memory:', { force_mbedtls_unsafe: 'true' })
  const connection = await instance.connect()
  await connection.run(`ATTACH '${file}' AS d (ENCRYPTION_KEY 'hidden')`)
  for (const statement of ['USE d', ...tradesTable('trades', 1000), 'CHECKPOINT']) await connection.run(statement)
  instance.closeSync()
  const result = await scan(file)
  assert.is(result.verdict, 'inconclusive')
  assert.match(result.reason ?? '', /encrypted/)
})

test('small blocks are scanned as well as large ones', async () => {
  for (const blockSize of [16384, 32768]) {
    const file = await createDatabase(usedDatabase, { blockSize })
    const { header, map } = await layoutOf(file)
    assert.is(header.blockSize, blockSize)
    assert.is((await scan(file)).verdict, 'clean')
    const live = Array.from({ length: map.liveEnd }, (_, block) => block).filter((block) => !map.isFree(block))
    for (let i = 0; i < 10; i++) {
      const block = random.pick(live)
      const result = await withFlip(file, blockOffset(header, block) + random.int(0, blockSize - 1), () => scan(file))
      assert.is(result.damage[0]?.blockId, block)
    }
  }
})

test('a scan keeps to its read rate and leaves the event loop to others', async () => {
  const file = await createDatabase([...tradesTable('trades', 400_000), 'CHECKPOINT'])
  const free = await scan(file)
  const rate = free.bytesRead * 2
  let turns = 0
  const timer = setInterval(() => turns++, 5)
  const limited = await scanFile(file, { maxBytesPerSecond: rate })
  clearInterval(timer)
  assert.is(limited.verdict, 'clean')
  assert.ok(limited.durationMs > 400, `${limited.durationMs} ms for half a second's worth`)
  // Few, since the machine is shared. A scan in one go would leave it none.
  assert.ok(turns >= 5, `the event loop came round ${turns} times`)
})

test.run()
