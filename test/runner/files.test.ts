import fs from 'node:fs'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { temporaryDirectory } from '../support/temp.ts'
import { describeTestFile, findTestFiles } from './files.ts'

const tests = path.resolve(import.meta.dirname, '..')

function described(source: string) {
  const file = path.join(temporaryDirectory(), 'x.test.ts')
  fs.writeFileSync(file, source)
  return describeTestFile(file)
}

test('every test file of the project is found, this one included, and no fixture or fetched tool', () => {
  const names = findTestFiles(tests).map((file) => path.relative(tests, file.path))
  assert.ok(names.includes('runner/files.test.ts'))
  assert.ok(names.includes('servers/redis.test.ts'))
  assert.not(names.some((name) => name.startsWith('fixtures') || name.includes('node_modules')))
})

test('a file has 120 s unless its first lines say otherwise', () => {
  assert.is(described('').deadline, 120_000)
  assert.is(described('// deadline: 300s\n').deadline, 300_000)
  assert.is(described('/** What it is. */\n// deadline: 5m\n').deadline, 300_000)
  assert.is(described(`${'\n'.repeat(10)}// deadline: 5m\n`).deadline, 120_000)
  assert.throws(() => described('// deadline: 300\n'), /cannot read the deadline "300"/)
})

test('what a file needs is read from its header, from the servers that it imports, near or far, and from the programs that it names', () => {
  assert.equal(described('// needs: pgbench, psql\n').needs, ['pgbench', 'psql'])
  assert.equal(described("spawnChild('psql', [])").needs, ['psql'])
  assert.equal(described("spawnChild(python, ['-c', 'import psycopg2'])").needs, ['psycopg2'])
  const needs = (name: string) => describeTestFile(path.join(tests, name)).needs
  assert.equal(needs('servers/redis.test.ts'), ['redis'])
  assert.equal(needs('servers/chdb.test.ts'), ['chdb'])
  assert.equal(needs('servers/clickhouse.test.ts'), ['clickhouse'])
  assert.equal(needs('servers/process.test.ts'), [])
  const near = path.join(temporaryDirectory(), 'far.test.ts')
  fs.writeFileSync(near, `import '${path.relative(path.dirname(near), path.join(tests, 'servers/redis.test.ts'))}'\n`)
  assert.equal(describeTestFile(near).needs, ['redis'])
})

test('files below fault/ run alone, unless they say that they bear others', () => {
  assert.ok(describeFault('fault/kill').alone)
  assert.not(describeFault('default/kill').alone)
  assert.not(describeFault('fault/kill', '// deadline: 300s\n// beside: others\n').alone)
})

function describeFault(name: string, source = '') {
  const file = path.join(temporaryDirectory(), `${name}.test.ts`)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, source)
  return describeTestFile(file)
}

test.run()
