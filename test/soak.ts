/**
 * The long forms of the tests, over and over: a test file that looks at SOAK has one, which SOAK=1 turns on.
 *
 *   npm run soak -- [TIME] [PATH-PART …] [--allow-skip NAME …] [--root DIRECTORY]
 *
 * TIME: `90s`, `30m`, `8h`. Rounds of all chosen files follow each other until it is up, each file with a new seed; a file that counts (rounds,
 * workloads) is told in SOAK_UNTIL when its share of the time ends. Without TIME: one round, each file to its own end. PATH-PART: only
 * files whose path contains one of them. Every run prints its seed, and what it has counted: the lines of its output that begin with `# `.
 * Exit 0 only if at least one run ended well and none failed; 2: wrong usage.
 */

import path from 'node:path'
import { parseArgs } from 'node:util'
import { endAllOnSignals, type FileResult, runTestFile } from './runner/file-run.ts'
import { findTestFiles, parseDuration, type TestFile } from './runner/files.ts'
import { bringPrerequisites } from './support/prerequisites.ts'

/** A long form takes longer than the deadline that a file has in `npm test`. */
const longer = 20

interface Options {
  /** Milliseconds, or undefined for one round. */
  time: number | undefined
  filters: string[]
  allowedSkips: Set<string>
  root: string
}

interface Tally {
  runs: number
  tests: number
  failedSeeds: number[]
}

class UsageError extends Error {}

function readArguments(): Options {
  const { values, positionals } = parse()
  const times = positionals.filter((argument) => /^\d/.test(argument))
  if (times.length > 1) throw new UsageError(`more than one time: ${times.join(', ')}`)
  const [text] = times
  const time = text === undefined ? undefined : parseDuration(text)
  if (text !== undefined && !time) throw new UsageError(`cannot read the time "${text}" (write 90s, 30m or 8h)`)
  return {
    time,
    filters: positionals.filter((argument) => argument !== text),
    allowedSkips: new Set(values['allow-skip']),
    root: path.resolve(values.root),
  }
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        'allow-skip': { type: 'string', multiple: true, default: [] },
        root: { type: 'string', default: import.meta.dirname },
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** One run of a file's long form. */
async function soak(file: TestFile, options: Options, until: number | undefined): Promise<{ result: FileResult; seed: number }> {
  const seed = Math.floor(Math.random() * 2 ** 31)
  print(`run  ${file.name}  SEED=${seed}`)
  const result = await runTestFile(
    { ...file, deadline: file.deadline * longer },
    {
      allowedSkips: options.allowedSkips,
      env: { SOAK: '1', SEED: String(seed), ...(until === undefined ? {} : { SOAK_UNTIL: String(Math.round(until)) }) },
    },
  )
  print(
    `${result.problems.length === 0 ? 'ok  ' : 'FAIL'} ${file.name}  SEED=${seed}  ${result.passed} passed  ${(result.durationMs / 1000).toFixed(1)} s`,
  )
  for (const [line] of result.output.matchAll(/^# .*$/gm)) print(`     ${line}`)
  if (result.problems.length > 0) {
    print(`---- what it printed\n${result.output.trimEnd()}\n---- why it fails`)
    for (const problem of result.problems) print(`- ${problem}`)
    print(`---- again: SOAK=1 SEED=${seed} npm test -- ${file.name}`)
  }
  return { result, seed }
}

async function main(): Promise<number> {
  const options = readArguments()
  const chosen = findTestFiles(options.root, options.filters).filter((file) => file.soaks)
  if (chosen.length === 0) throw new UsageError('no test file with a long form was found')
  const { skip } = bringPrerequisites([...new Set(chosen.flatMap(({ needs }) => needs))], options.allowedSkips)
  const files = chosen.filter(({ name, needs }) => {
    const without = needs.filter((need) => skip.includes(need))
    if (without.length > 0) print(`SKIPPED (the whole file): ${name} needs ${without.join(', ')}`)
    return without.length === 0
  })

  const end = options.time === undefined ? undefined : Date.now() + options.time
  const tallies = new Map<TestFile, Tally>(files.map((file) => [file, { runs: 0, tests: 0, failedSeeds: [] }]))
  let rounds = 0
  do {
    for (const [i, file] of files.entries()) {
      const left = end === undefined ? undefined : end - Date.now()
      // The first round is always made, so that every file has had its turn.
      if (left !== undefined && left <= 0 && rounds > 0) break
      const until = left === undefined ? undefined : Date.now() + Math.max(0, left) / (files.length - i)
      const { result, seed } = await soak(file, options, until)
      const tally = tallies.get(file) as Tally
      tally.runs++
      tally.tests += result.passed
      if (result.problems.length > 0) tally.failedSeeds.push(seed)
    }
    rounds++
  } while (end !== undefined && Date.now() < end && files.length > 0)

  print('\nsummary')
  let runs = 0
  let failed = 0
  for (const [file, tally] of tallies) {
    runs += tally.runs
    failed += tally.failedSeeds.length
    print(
      `  ${file.name}: ${tally.runs} runs, ${tally.tests} tests passed${tally.failedSeeds.map((seed) => `, FAILED with SEED=${seed}`).join('')}`,
    )
  }
  print(`${rounds} rounds, ${runs} runs, ${failed} failed`)
  return runs > 0 && failed === 0 ? 0 : 1
}

endAllOnSignals()
main().then(
  (code) => {
    process.exitCode = code
  },
  (error: Error) => {
    process.stderr.write(`${error.message}\n`)
    process.exitCode = error instanceof UsageError ? 2 : 1
  },
)
