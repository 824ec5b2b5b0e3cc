/** The rules of the house that a type checker cannot see: who writes files, who imports whom, how long a file may be. */

import fs from 'node:fs'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { labelsInCode } from './fault/support/faults.ts'
import { exempt, grouped } from './fault/support/labels.ts'

const root = path.resolve(import.meta.dirname, '..')

interface Source {
  /** Relative to the root, with slashes. */
  name: string
  text: string
  /** Modules it imports: relative ones as names like `agent/disk.ts`, others as written. */
  imports: string[]
}

function sourcesOf(...directories: string[]): Source[] {
  return directories.flatMap((directory) =>
    fs
      .readdirSync(path.join(root, directory), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !file.split(/[\\/]/).includes('.tools'))
      .map((file) => readSource(`${directory}/${file.replaceAll('\\', '/')}`)),
  )
}

function readSource(name: string): Source {
  const text = fs.readFileSync(path.join(root, name), 'utf8')
  const specifiers = [
    ...text.matchAll(/^\s*(?:import|export)\b[^'"\n]*(?:\n[^'"\n]*)*?from\s+['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm),
  ]
  const imports = specifiers.map((match) => {
    const specifier = (match[1] ?? match[2]) as string
    return specifier.startsWith('.') ? path.posix.join(path.posix.dirname(name), specifier) : specifier
  })
  return { name, text, imports }
}

/** Lines `file: import` of all sources that import something forbidden. */
function forbidden(sources: readonly Source[], isForbidden: (imported: string, source: Source) => boolean): string[] {
  return sources.flatMap((source) =>
    source.imports.filter((imported) => isForbidden(imported, source)).map((imported) => `${source.name}: ${imported}`),
  )
}

const writes =
  /\b(?:fs|fsp|promises)\.(?:promises\.)?(?:write|append|rename|rm|rmdir|unlink|mkdir|mkdtemp|copyFile|cp|truncate|ftruncate|fsync|fdatasync|chmod|fchmod|chown|link|symlink|utimes|futimes|createWriteStream)\w*\(/

test('only agent/disk.ts writes to the file system', () => {
  const offenders = sourcesOf('agent', 'plugins')
    .filter((source) => source.name !== 'agent/disk.ts')
    .flatMap((source) =>
      source.text.split('\n').flatMap((line, i) => (writes.test(line) ? [`${source.name}:${i + 1} ${line.trim()}`] : [])),
    )
  assert.equal(offenders, [])
})

test('the engine and the journal know nothing of plugins, destinations and schedules', () => {
  const inner = sourcesOf('agent').filter(({ name }) => name.startsWith('agent/engine/') || name.startsWith('agent/journal/'))
  assert.ok(inner.length > 0)
  assert.equal(
    forbidden(inner, (imported) =>
      /^plugins\/|^ioredis$|^@clickhouse\/|^node-cron$|^agent\/(supervisor|scheduler|agent|main)\b/.test(imported),
    ),
    [],
  )
})

test('nothing imports a plugin but the registry, and only the outermost parts import the registry', () => {
  assert.equal(
    forbidden(sourcesOf('agent'), (imported) => imported.startsWith('plugins/') && imported !== 'plugins/index.ts'),
    [],
  )
})

test('a plugin imports the contract and small helpers, never the machinery or another plugin', () => {
  const offenders = forbidden(sourcesOf('plugins'), (imported, source) => {
    if (
      /^agent\/(engine|supervisor|config|commands)\/|^agent\/(agent|main|scheduler|engine-client|plugin-host|runtime)\.ts$/.test(imported)
    )
      return true
    if (/^agent\/journal\/(?!types\.ts)/.test(imported)) return true
    const own = source.name.replace(/\.ts$/, '').split('/')[1]
    return imported.startsWith('plugins/') && source.name !== 'plugins/index.ts' && imported.replace(/\.ts$/, '').split('/')[1] !== own
  })
  assert.equal(offenders, [])
})

test('no file is longer than 400 lines', () => {
  const long = sourcesOf('agent', 'plugins', 'build', 'test').filter((source) => source.text.split('\n').length > 401)
  assert.equal(
    long.map((source) => `${source.name}: ${source.text.split('\n').length} lines`),
    [],
  )
})

test('every labelled step stands in the group of a test that kills the process there (test/fault/support/labels.ts), and no other', () => {
  const known = [...grouped, ...exempt]
  const labels = labelsInCode()
  assert.equal(
    labels.filter((label) => !known.includes(label)),
    [],
    'in no group',
  )
  assert.equal(
    known.filter((label) => !labels.includes(label)),
    [],
    'no longer in the code',
  )
})

test.run()
