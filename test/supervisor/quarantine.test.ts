/** Quarantine: nothing is lost or overwritten, whatever the names and wherever the files lie. */

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { quarantine, tailOf } from '../../agent/quarantine.ts'
import { onExit } from '../support/cleanup.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('quarantine')

function setUp() {
  const directory = temporaryDirectory('qu')
  const file = (name: string, content: string) => {
    const full = path.join(directory, name)
    fs.mkdirSync(path.dirname(full), { recursive: true })
    fs.writeFileSync(full, content)
    return full
  }
  return { directory, file, paths: { quarantine: path.join(directory, 'quarantine') } }
}

const reasonOf = (directory: string) => JSON.parse(fs.readFileSync(path.join(directory, 'reason.json'), 'utf8'))
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const time = Date.UTC(2026, 10, 23, 8, 45, 0, 7)

test('files are moved at once, and reason.json says what they were', async () => {
  const { file, paths, directory } = setUp()
  const database = file('a.duckdb', 'broken')
  const result = quarantine({
    paths,
    cause: 'Database corrupt!',
    files: [database, `${database}.wal`],
    reason: 'block 7: checksum',
    logTail: ['last line'],
    evidence: { block: 7n },
    time,
  })
  assert.is(path.relative(directory, result.directory), 'quarantine/20261123T084500.007Z-database-corrupt')
  assert.not(fs.existsSync(database))
  await result.settled
  const moved = path.join(result.directory, 'a.duckdb')
  assert.is(fs.readFileSync(moved, 'utf8'), 'broken')
  assert.equal(reasonOf(result.directory), {
    version: 1,
    time: '2026-11-23T08:45:00.007Z',
    cause: 'Database corrupt!',
    reason: 'block 7: checksum',
    files: [{ original: database, file: moved, bytes: 6, sha256: sha256('broken') }],
    evidence: { block: '7' },
    logTail: ['last line'],
  })
})

test('the same cause in the same millisecond, and files of the same name, overwrite nothing', async () => {
  const { file, paths } = setUp()
  const first = quarantine({
    paths,
    cause: 'x',
    files: [file('one/f', '1'), file('two/f', '2'), file('reason.json', '3')],
    reason: 'r',
    time,
  })
  const second = quarantine({ paths, cause: 'x', files: [file('one/f', '4')], reason: 'r', time })
  await Promise.all([first.settled, second.settled])
  assert.is.not(first.directory, second.directory)
  const contents = [...first.files, ...second.files].map((entry) => fs.readFileSync(entry.file, 'utf8'))
  assert.equal(contents, ['1', '2', '3', '4'])
  assert.is(reasonOf(first.directory).files.length, 3)
})

test('files of another file system are renamed aside at once and brought over afterwards', async () => {
  const { paths, directory } = setUp()
  const elsewhere = fs.mkdtempSync('/dev/shm/qu-')
  onExit(() => fs.rmSync(elsewhere, { recursive: true, force: true }))
  assert.is.not(fs.statSync(elsewhere).dev, fs.statSync(directory).dev, 'the test needs two file systems')
  const database = path.join(elsewhere, 'a.duckdb')
  fs.writeFileSync(database, 'far away')
  const result = quarantine({ paths, cause: 'x', files: [database], reason: 'r', time })
  assert.not(fs.existsSync(database), 'the place is free at once')
  assert.is(reasonOf(result.directory).files[0].file, `${database}.quarantined-20261123T084500.007Z`)
  await result.settled
  assert.equal(fs.readdirSync(elsewhere), [])
  const [entry] = reasonOf(result.directory).files
  assert.is(entry.file, path.join(result.directory, 'a.duckdb'))
  assert.is(entry.sha256, sha256('far away'))
  assert.is(fs.readFileSync(entry.file, 'utf8'), 'far away')
})

test('when a file cannot be moved, the report still names those that were', () => {
  const { file, paths } = setUp()
  const good = file('good', '1')
  const bad = '/proc/self/status'
  assert.throws(() => quarantine({ paths, cause: 'x', files: [good, bad], reason: 'r', time }))
  const [name] = fs.readdirSync(paths.quarantine)
  const directory = path.join(paths.quarantine, name as string)
  assert.is(reasonOf(directory).files[0].original, good)
  assert.is(fs.readFileSync(path.join(directory, 'good'), 'utf8'), '1')
})

test('the tail of a log is its last lines, and empty where there is none', () => {
  const { file } = setUp()
  assert.equal(tailOf(file('log', `${'x'.repeat(100_000)}\na\nb\nc\n`), 2), ['b', 'c'])
  assert.equal(tailOf('/nonexistent'), [])
})

test.run()
