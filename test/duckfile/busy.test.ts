/** Scans and copies beside a process that writes and checkpoints all the time. The file is opened in DuckDB by that process alone. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock, waitUntil } from '../../agent/clock.ts'
import { copyFile } from '../../agent/duckfile/copy.ts'
import { headerBytes } from '../../agent/duckfile/header.ts'
import type { ReadOptions } from '../../agent/duckfile/reader.ts'
import { scanFile } from '../../agent/duckfile/scan.ts'
import { busyEngine } from './busy.ts'
import { contentOf } from './database.ts'

const test = suite('duckfile beside a busy engine')

/** Options of a reader that a checkpoint overtakes before each of its reads but the first, however slow the engine is. */
function overtaken(file: string): ReadOptions {
  const headers = () => {
    const bytes = Buffer.alloc(headerBytes)
    const fd = fs.openSync(file, 'r')
    fs.readSync(fd, bytes, 0, headerBytes, 0)
    fs.closeSync(fd)
    return bytes
  }
  return {
    maxBytesPerSecond: 1,
    clock: {
      ...systemClock,
      monotonic: () => 0,
      async sleep() {
        const before = headers()
        assert.ok(await waitUntil(() => !headers().equals(before), { deadline: 60_000, every: 5 }), 'a checkpoint within a minute')
      },
    },
  }
}

test('scans beside constant checkpoints never report damage, and see many checkpoints', async () => {
  const engine = await busyEngine()
  const verdicts = { clean: 0, inconclusive: 0, damaged: 0 }
  const iterations = new Set<number>()
  const enough = () => iterations.size > 5 && verdicts.clean > 5
  const began = performance.now()
  for (let ms = 0; ms < 5000 || (ms < 60_000 && !enough()); ms = performance.now() - began) {
    const result = await scanFile(engine.file)
    verdicts[result.verdict]++
    if (result.databaseHeader !== null) iterations.add(result.databaseHeader.iteration)
    assert.is.not(result.verdict, 'damaged', result.reason)
  }
  await engine.stop()
  assert.ok(iterations.size > 5, `${iterations.size} checkpoints seen`)
  assert.ok(verdicts.clean > 5, JSON.stringify(verdicts))
  assert.is((await scanFile(engine.file)).verdict, 'clean', 'after SIGKILL')
})

test('while checkpoints are held every scan is clean, and a copy opens in DuckDB with exactly the rows of the checkpoint', async () => {
  const engine = await busyEngine()
  for (let round = 0; round < 4; round++) {
    const content = await engine.hold()
    for (let i = 0; i < 3; i++) {
      const result = await scanFile(engine.file)
      assert.is(result.verdict, 'clean', result.reason)
    }
    const target = `${engine.file}.${round}.copy`
    const copied = await copyFile(engine.file, target, 'SNAPSHOT:COPY')
    assert.is(fs.statSync(target).size, copied.bytes)
    assert.is((await scanFile(target)).databaseHeader?.iteration, copied.iteration)
    const lines = (await contentOf(target)).split('\n')
    assert.ok(lines.includes(content), `${lines} has not ${content}`)
    engine.release()
  }
  await engine.stop()
})

test('a scan that checkpoints always overtake is inconclusive', async () => {
  const engine = await busyEngine()
  const result = await scanFile(engine.file, overtaken(engine.file))
  await engine.stop()
  assert.is(result.verdict, 'inconclusive', result.reason)
  assert.match(result.reason ?? '', /checkpoint|changing/)
  assert.equal(result.damage, [])
})

test('a copy that a checkpoint overtakes is refused and leaves nothing behind', async () => {
  const engine = await busyEngine()
  await engine.hold()
  engine.release()
  const target = `${engine.file}.copy`
  let refusal: unknown
  await copyFile(engine.file, target, 'SNAPSHOT:COPY', overtaken(engine.file)).catch((error) => {
    refusal = error
  })
  await engine.stop()
  assert.is((refusal as Error | undefined)?.name, 'DaemonGuardError')
  assert.equal(
    fs.readdirSync(path.dirname(target)).filter((name) => name.includes('copy')),
    [],
  )
})

test.run()
