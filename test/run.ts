/**
 * The tests' runner: finds every test file, runs each in a process of its own, and believes only what it has seen (test/runner).
 *
 *   node test/run.ts [PATH-PART …] [--binary] [--allow-skip NAME …] [--concurrency N] [--root DIRECTORY]
 *
 * PATH-PART: only files whose path contains one of them. --allow-skip: leave for a skipped test, or for a missing prerequisite
 * (redis, clickhouse, chdb, …), whose files are then left out. --binary: agents and engines are the packed executable, which is built
 * first if it is older than the sources; without PATH-PART, all of fault/. Exit 0 only if at least one test ran and none failed.
 */

import path from 'node:path'
import { parseArgs } from 'node:util'
import { builtExecutable } from './build/built.ts'
import { endAllOnSignals, type FileResult, runTestFile } from './runner/file-run.ts'
import { findTestFiles, type TestFile } from './runner/files.ts'
import { bringPrerequisites } from './support/prerequisites.ts'
import { binaryVariable } from './support/program.ts'

interface Options {
  filters: string[]
  allowedSkips: Set<string>
  concurrency: number
  root: string
  binary: boolean
}

function readArguments(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'allow-skip': { type: 'string', multiple: true, default: [] },
      concurrency: { type: 'string', default: '3' },
      root: { type: 'string', default: import.meta.dirname },
      binary: { type: 'boolean', default: false },
    },
  })
  const concurrency = Number(values.concurrency)
  if (!Number.isInteger(concurrency) || concurrency < 1) throw new Error(`--concurrency ${values.concurrency} is not a positive number`)
  const { binary } = values
  return {
    filters: binary && positionals.length === 0 ? ['fault/'] : positionals,
    allowedSkips: new Set(values['allow-skip']),
    concurrency,
    root: path.resolve(values.root),
    binary,
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

function describe(result: FileResult): string {
  const mark = result.problems.length === 0 ? 'ok  ' : 'FAIL'
  const failed = result.failed > 0 ? `, ${result.failed} failed` : ''
  const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : ''
  return `${mark} ${result.file.name}  ${result.passed} passed${failed}${skipped}  ${(result.durationMs / 1000).toFixed(1)} s`
}

function show(result: FileResult): void {
  print(describe(result))
  for (const name of result.skips) print(`     SKIPPED (allowed): ${name}`)
  if (result.problems.length === 0) return
  print(`---- what ${result.file.name} printed`)
  print(result.output.trimEnd())
  print('---- why it fails')
  for (const problem of result.problems) print(`- ${problem}`)
  print('----')
}

/** Runs `files` with `width` at a time. */
async function runAll(files: readonly TestFile[], width: number, allowedSkips: Set<string>): Promise<FileResult[]> {
  const queue = [...files]
  const results: FileResult[] = []
  async function lane(): Promise<void> {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const result = await runTestFile(file, { allowedSkips })
      show(result)
      results.push(result)
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return results
}

async function main(): Promise<number> {
  const options = readArguments()
  if (options.binary) process.env[binaryVariable] = await builtExecutable()
  const found = findTestFiles(options.root, options.filters)
  const needed = [...new Set(found.flatMap((file) => file.needs))]
  const { skip } = bringPrerequisites(needed, options.allowedSkips)

  let skipped = 0
  const files = found.filter((file) => {
    const without = file.needs.filter((need) => skip.includes(need))
    if (without.length > 0) {
      skipped++
      print(`SKIPPED (the whole file, counted as one): ${file.name} needs ${without.join(', ')}`)
    }
    return without.length === 0
  })
  const results = [
    ...(await runAll(
      // Those with the longest deadlines first, so that no lane ends with one.
      files.filter((file) => !file.alone).sort((one, other) => other.deadline - one.deadline),
      options.concurrency,
      options.allowedSkips,
    )),
    ...(await runAll(
      files.filter((file) => file.alone),
      1,
      options.allowedSkips,
    )),
  ]

  let passed = 0
  let failed = 0
  for (const result of results) {
    passed += result.passed
    failed += result.failed
    skipped += result.skipped
  }
  const bad = results.filter((result) => result.problems.length > 0)
  if (bad.length > 0) print(`\nfailing files:\n${bad.map((result) => `  ${result.file.name}`).join('\n')}`)
  if (passed === 0)
    print(
      found.length === 0 ? `no test file found${options.filters.length > 0 ? ` for ${options.filters.join(' ')}` : ''}` : 'no test passed',
    )
  print(`${passed} passed, ${failed} failed, ${skipped} skipped`)
  return passed > 0 && bad.length === 0 && failed === 0 ? 0 : 1
}

endAllOnSignals()
main().then(
  (code) => {
    process.exitCode = code
  },
  (error: Error) => {
    process.stderr.write(`${error.message}\n`)
    print('0 passed, 1 failed, 0 skipped')
    process.exitCode = 1
  },
)
