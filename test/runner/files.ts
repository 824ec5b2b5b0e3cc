/** Finds the test files (none is ever listed by hand), and reads what they say and import about how they want to be run. */

import fs from 'node:fs'
import path from 'node:path'

export interface TestFile {
  /** Absolute. */
  path: string
  /** Relative to the working directory, for people. */
  name: string
  /** Milliseconds: 120 s, or what a line `// deadline: 300s` among the first ten says. */
  deadline: number
  /** Runs alone: everything under fault/, but for those that say `// beside: others` among the first ten lines, since nothing in them hurries. */
  alone: boolean
  /** Names of prerequisites: those that it starts or imports, and those in a line `// needs: psql, pgbench` among the first ten. */
  needs: string[]
  /** It has a long form: it looks at SOAK. */
  soaks: boolean
}

const defaultDeadline = 120_000
const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const
/** The support modules that start a program which not every machine has. */
const needsOfModules: Record<string, string> = { 'redis.ts': 'redis', 'clickhouse.ts': 'clickhouse', 'chdb.ts': 'chdb', 'wine.ts': 'wine' }
/** What a test starts by name, as it stands in its source. */
const needsOfWords: [RegExp, string][] = [
  [/['"`]psql['"`]/, 'psql'],
  [/['"`]pgbench['"`]/, 'pgbench'],
  [/\bpsycopg2\b/, 'psycopg2'],
]
const tests = path.resolve(import.meta.dirname, '..')
const support = path.join(tests, 'support')
/** These name every program and start none. */
const namesAll = new Set([import.meta.filename, path.join(support, 'prerequisites.ts')])

/** All `*.test.ts` under `root`, sorted; with `filters`, only those whose path contains one of them. */
export function findTestFiles(root: string, filters: readonly string[] = []): TestFile[] {
  const found: string[] = []
  walk(root, found)
  return found
    .sort()
    .map((file) => describeTestFile(file))
    .filter((file) => filters.length === 0 || filters.some((filter) => file.name.includes(filter)))
}

/** Reads a test file's header and imports. Throws on a deadline that it cannot read. */
export function describeTestFile(file: string): TestFile {
  const name = path.relative(process.cwd(), file)
  const source = fs.readFileSync(file, 'utf8')
  const head = source.split('\n').slice(0, 10)
  const header = (key: string) =>
    head
      .map((line) => new RegExp(`^\\s*(?://|\\*|/\\*\\*?)\\s*${key}:\\s*(.+?)\\s*(?:\\*/)?$`).exec(line)?.[1])
      .find((value) => value !== undefined)
  const declared = (header('needs') ?? '').split(',').map((need) => need.trim())
  const needs = new Set([...declared.filter((need) => need !== ''), ...importedNeeds(file)])
  return {
    path: file,
    name,
    deadline: parseDeadline(header('deadline'), name),
    alone: file.split(path.sep).includes('fault') && header('beside') !== 'others',
    needs: [...needs].sort(),
    soaks: /\bprocess\.env\.SOAK\b|\/support\/soak\.ts'/.test(source),
  }
}

function walk(directory: string, found: string[]): void {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    if (entry.name === 'node_modules' || entry.name.startsWith('.')) continue
    const full = path.join(directory, entry.name)
    if (entry.isDirectory()) walk(full, found)
    else if (entry.name.endsWith('.test.ts')) found.push(full)
  }
}

function parseDeadline(text: string | undefined, name: string): number {
  if (text === undefined) return defaultDeadline
  const duration = parseDuration(text)
  if (duration === undefined) throw new Error(`${name}: cannot read the deadline "${text}" (write // deadline: 300s)`)
  return duration
}

/** `300s`, `30m`, … in milliseconds; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+)\s*(ms|s|m|h)$/.exec(text)
  return match === null ? undefined : Number(match[1]) * units[match[2] as keyof typeof units]
}

/** Follows relative imports; collects the prerequisites of the support modules among them, and of programs that are named in the sources. */
function importedNeeds(file: string, seen = new Set<string>()): string[] {
  if (seen.has(file) || !fs.existsSync(file)) return []
  seen.add(file)
  const source = fs.readFileSync(file, 'utf8')
  const own = path.dirname(file) === support ? needsOfModules[path.basename(file)] : undefined
  const named = namesAll.has(file) ? [] : needsOfWords.filter(([word]) => word.test(source)).map(([, need]) => need)
  const imports = [...source.matchAll(/(?:from|import)\s*\(?\s*['"](\.{1,2}\/[^'"]+\.ts)['"]/g)]
    .map((match) => path.resolve(path.dirname(file), match[1] as string))
    .filter((imported) => imported.startsWith(tests))
  return [...(own === undefined ? [] : [own]), ...named, ...imports.flatMap((imported) => importedNeeds(imported, seen))]
}
