// `journal verify` and `journal cat` on each kind of damaged file: what they print, their exit codes, and that they change nothing.

import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { printError, readArguments } from '../../agent/commands/command.ts'
import journal from '../../agent/commands/journal.ts'
import { markFile } from '../../agent/journal/mark.ts'
import { encodeSegmentHeader, segmentHeaderBytes, segmentName } from '../../agent/journal/segment.ts'
import { listSpills } from '../../agent/journal/spill.ts'
import {
  append,
  type BatchPlace,
  batchesOf,
  databaseId,
  filesOf,
  flip,
  openWriter,
  putFiles,
  rebooted,
  spilled,
} from '../fixtures/journal.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('journal damage')
const directory = path.join(temporaryDirectory('journal'), 'journal')
const otherDatabase = '6f3c1ad2-0000-4000-8000-00000000000b'
/** Ten transactions of a row each, the seventh with a spill, four to a segment. */
const last = 10
const spillSeq = 7
let intact: ReadonlyMap<string, Buffer>
let batches: BatchPlace[]

test.before(async () => {
  const writer = openWriter(directory, { segmentBytes: segmentHeaderBytes + 3 * 400 })
  for (let seq = 1; seq <= last; seq++) {
    if (seq !== spillSeq) {
      await writer.durable(append(writer, seq, Buffer.alloc(100, seq)))
      continue
    }
    const { encoded } = await spilled(writer, [[seq, Buffer.alloc(100, seq)]])
    writer.reserve([encoded])
    await writer.durable(writer.append(encoded, 1_800_000_000_000 + seq))
  }
  await writer.close()
  intact = filesOf(directory)
  batches = batchesOf(directory)
})

test.before.each(() => putFiles(directory, intact))

/** What the command prints and ends with. */
async function run(verb: 'verify' | 'cat', ...more: string[]): Promise<{ code: number; out: string; err: string }> {
  const told = { out: '', err: '' }
  const { write: writeOut } = process.stdout
  const { write: writeErr } = process.stderr
  const into = (stream: 'out' | 'err') => (text: string | Uint8Array) => {
    told[stream] += String(text).replaceAll(`${directory}/`, '')
    return true
  }
  process.stdout.write = into('out')
  process.stderr.write = into('err')
  try {
    const call = readArguments('journal', journal, [verb, directory, ...more])
    const code = await journal.run(call).catch((error) => printError(error, call.json))
    return { code, ...told }
  } finally {
    process.stdout.write = writeOut
    process.stderr.write = writeErr
  }
}

const place = (seq: number) => batches.find(({ firstSeq }) => firstSeq === seq) as BatchPlace
const name = (seq: number) => path.basename(place(seq).file)
const segments = () => [...new Set(batches.map(({ file }) => file))]
const spill = () => path.join(directory, listSpills(directory)[0] as string)
const cut = (file: string, bytes: number) => fs.truncateSync(file, bytes)
function overwrite(file: string, offset: number, bytes: Buffer): void {
  const fd = fs.openSync(file, 'r+')
  fs.writeSync(fd, bytes, 0, bytes.length, offset)
  fs.closeSync(fd)
}

interface Kind {
  damage(): void
  /** Exit code of both; 0: it is none. */
  code: 0 | 1 | 3
  /** Lines of `verify` after its first two. */
  says: () => string[]
  /** Seqs that `cat` cannot print. */
  lost: () => number[]
  /** Where `cat` cannot go on: what it says. */
  ends?: RegExp
}

const kinds: Record<string, Kind> = {
  'nothing at all': { damage: () => {}, code: 0, says: () => [], lost: () => [] },
  'a file that is none of the journal’s': {
    damage: () => {
      fs.writeFileSync(path.join(directory, 'notes.txt'), 'x')
      fs.writeFileSync(path.join(directory, '00000000000000000003.dgj.bak'), 'x')
    },
    code: 0,
    says: () => [],
    lost: () => [],
  },
  'a flipped byte in the header of a segment': {
    damage: () => flip(place(1).file, 20),
    code: 1,
    says: () => [`  ${name(1)}, byte 0: its header is missing or damaged`],
    lost: () => [],
  },
  'a flipped byte in the header of a batch': {
    damage: () => flip(place(2).file, place(2).offset + 16),
    code: 1,
    says: () => [`  ${name(2)}, byte ${place(2).offset}: checksum of batch at seq 3 does not match`, '  missing: seq 2 to 2'],
    lost: () => [2],
  },
  'a flipped byte in the magic of a batch': {
    damage: () => flip(place(2).file, place(2).offset),
    code: 1,
    says: () => [`  ${name(2)}, byte ${place(2).offset}: no batch header`, '  missing: seq 2 to 2'],
    lost: () => [2],
  },
  'a flipped byte in a cell': {
    damage: () => flip(place(2).file, place(2).offset + place(2).length - 20),
    code: 1,
    says: () => [`  ${name(2)}, byte ${place(2).offset}: checksum of batch at seq 2 does not match`, '  missing: seq 2 to 2'],
    lost: () => [2],
  },
  'zeros in the middle': {
    damage: () => overwrite(place(2).file, place(2).offset, Buffer.alloc(place(2).length)),
    code: 1,
    says: () => [`  ${name(2)}, byte ${place(2).offset}: no batch header`, '  missing: seq 2 to 2'],
    lost: () => [2],
  },
  'a segment that is cut within a batch, another behind it': {
    damage: () => cut(place(2).file, place(2).offset + 80),
    code: 1,
    says: () => [
      `  ${name(2)}, byte ${place(2).offset}: batch of ${place(2).length} bytes is cut short`,
      `  missing: seq 2 to ${firstOf(1) - 1}`,
    ],
    lost: () => from(2, firstOf(1) - 1),
  },
  'a segment that is cut between two batches, another behind it': {
    damage: () => cut(place(2).file, place(2).offset),
    code: 1,
    says: () => [`  missing: seq 2 to ${firstOf(1) - 1}`],
    lost: () => from(2, firstOf(1) - 1),
  },
  'an end that is gone': {
    damage: () => cut(place(last).file, place(last).offset),
    code: 1,
    says: () => [`  missing: seq ${last} to ${last}`],
    lost: () => [last],
  },
  'an end that is cut within a batch which was acknowledged': {
    damage: () => cut(place(last).file, place(last).offset + 80),
    code: 1,
    says: () => [
      `  ${name(last)}, byte ${place(last).offset}: the end: batch of ${place(last).length} bytes is cut short`,
      `  missing: seq ${last} to ${last}`,
    ],
    lost: () => [last],
  },
  'an end of which nobody can say whether it was acknowledged': {
    damage: () => {
      rebooted(directory)
      fs.rmSync(markFile(directory))
      cut(place(last).file, place(last).offset + 80)
    },
    code: 3,
    says: () => [`  ${name(last)}, byte ${place(last).offset}: the end: batch of ${place(last).length} bytes is cut short`],
    lost: () => [last],
  },
  'a segment that is missing in the row': {
    damage: () => fs.rmSync(segments()[1] as string),
    code: 1,
    says: () => [`  missing: seq ${firstOf(1)} to ${firstOf(2) - 1}`],
    lost: () => from(firstOf(1), firstOf(2) - 1),
  },
  'a segment of another database': {
    damage: () => {
      const header = encodeSegmentHeader({ firstSeq: firstOf(1), epoch: 1, databaseId: otherDatabase, bootId: databaseId, createdAt: 0 })
      overwrite(segments()[1] as string, 0, header)
    },
    code: 1,
    says: () => [
      `  ${path.basename(segments()[1] as string)}, byte 0: it belongs to database ${otherDatabase}, the first one to ${databaseId}`,
    ],
    lost: () => [],
  },
  'a segment under the name of another': {
    damage: () => fs.renameSync(segments()[1] as string, path.join(directory, segmentName(firstOf(1) + 1))),
    code: 1,
    says: () => [
      `  ${segmentName(firstOf(1) + 1)}, byte 0: its header says that it begins with seq ${firstOf(1)}`,
      `  ${segmentName(firstOf(1) + 1)}, byte ${segmentHeaderBytes}: seq ${firstOf(1)} stands where at least ${firstOf(1) + 1} was expected`,
      `  missing: seq ${firstOf(1)} to ${firstOf(1)}`,
    ],
    lost: () => [],
  },
  'a segment of a version that nobody knows': {
    damage: () => {
      const header = Buffer.from(fs.readFileSync(segments()[1] as string).subarray(0, segmentHeaderBytes))
      header.writeUInt32LE(9, 12)
      header.writeUInt32LE(crc32(header.subarray(12, 128)), 8)
      overwrite(segments()[1] as string, 0, header)
    },
    code: 1,
    says: () => [
      `  ${path.basename(segments()[1] as string)}, byte 0: journal segment of format version 9; this program reads version 1`,
      `  missing: seq ${firstOf(1)} to ${firstOf(2) - 1}`,
    ],
    lost: () => from(firstOf(1), firstOf(2) - 1),
    ends: /^daemonguard: journal segment of format version 9; this program reads version 1 \(\d+\.dgj\)\n {2}hint: run the version of daemonguard that wrote it, or a newer one\n/,
  },
  'an empty file in the middle': {
    damage: () => cut(segments()[1] as string, 0),
    code: 1,
    says: () => [
      `  ${path.basename(segments()[1] as string)}, byte 0: its header is missing or damaged`,
      `  missing: seq ${firstOf(1)} to ${firstOf(2) - 1}`,
    ],
    lost: () => from(firstOf(1), firstOf(2) - 1),
  },
  'an empty file at the end, which was only begun': {
    damage: () => fs.writeFileSync(path.join(directory, segmentName(last + 1)), ''),
    code: 0,
    says: () => [],
    lost: () => [],
  },
  'zeros at the end, in place of a segment that was only begun': {
    damage: () => fs.writeFileSync(path.join(directory, segmentName(last + 1)), Buffer.alloc(8192)),
    code: 0,
    says: () => [],
    lost: () => [],
  },
  'a spill that is missing': {
    damage: () => fs.rmSync(spill()),
    code: 1,
    says: () => [`  ${spillName}, byte 0: the spill ${spillName} is missing`, `  missing: seq ${spillSeq} to ${spillSeq}`],
    lost: () => [spillSeq],
  },
  'a spill that is cut': {
    damage: () => cut(spill(), 100),
    code: 1,
    says: () => [
      `  ${spillName}, byte 0: the spill ${spillName} has 100 bytes instead of ${intact.get(spillName)?.length}`,
      `  missing: seq ${spillSeq} to ${spillSeq}`,
    ],
    lost: () => [spillSeq],
  },
  'a spill with a flipped byte in its header': {
    damage: () => flip(spill(), 17),
    code: 1,
    says: () => [`  ${spillName}, byte 0: the spill ${spillName} has a damaged header`, `  missing: seq ${spillSeq} to ${spillSeq}`],
    lost: () => [spillSeq],
  },
  'a spill with a flipped byte in its rows': {
    damage: () => flip(spill(), 120),
    code: 1,
    says: () => [
      `  ${spillName}, byte 0: the spill ${spillName} is damaged between byte 64 and ${intact.get(spillName)?.length}`,
      `  missing: seq ${spillSeq} to ${spillSeq}`,
    ],
    lost: () => [spillSeq],
  },
}

let spillName = ''
const firstOf = (segment: number) => Number(path.basename(segments()[segment] as string, '.dgj'))
const from = (first: number, end: number) => Array.from({ length: end - first + 1 }, (_, i) => first + i)

/** What `cat` says of a range that has this seq, or of it alone. */
function rangeWith(seq: number): RegExp {
  const ranges = from(1, seq).flatMap((first) => from(seq, last).map((end) => `seq ${first} to ${end} cannot be read`))
  return new RegExp(`(${ranges.join('|')}|format version)`)
}

for (const [what, kind] of Object.entries(kinds)) {
  test(`${what}: verify and cat tell it, and touch nothing`, async () => {
    spillName = path.basename(spill())
    kind.damage()
    const before = filesOf(directory)
    const verified = await run('verify')
    const [first, second, ...rest] = verified.out.trimEnd().split('\n')
    assert.equal([verified.code, rest, verified.err], [kind.code, kind.says(), ''])
    assert.is(first, `${directory}: ${['clean', 'damaged', '', 'inconclusive'][kind.code]}`)
    assert.match(second ?? '', / segments, \d+ batches, \d+ transactions \(seq 1 to (9|10)\), /)
    const { verdict, damage, gaps } = JSON.parse((await run('verify', '--json')).out)
    assert.equal([verdict, damage.length + gaps.length > 0], [first?.split(': ')[1], kind.code === 1])

    const printed = await run('cat')
    const seqs = printed.out.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).seq]))
    if (kind.ends !== undefined) assert.match(printed.err, kind.ends)
    else
      assert.equal(
        seqs,
        from(1, last).filter((seq) => !kind.lost().includes(seq)),
        printed.err,
      )
    assert.is(printed.code, kind.lost().length > 0 ? kind.code : 0)
    for (const seq of kind.code === 3 ? [] : kind.lost()) assert.match(printed.err, rangeWith(seq))
    if (kind.lost().length === 0) assert.is(printed.err, '')
    assert.equal(filesOf(directory), before)
  })
}

test.run()
