/** Judges one run of a test file: passed means that every registered test was seen to pass, and uvu says so too. */

import type { Entry } from './report.ts'

export interface Ending {
  code: number | null
  signal: string | null
  /** The guard ended it: at its deadline, or because it lived on after its tests. */
  killed: 'deadline' | 'lingering' | null
  output: string
  entries: readonly Entry[]
  /** Processes that the file left behind (and the guard ended), each as `pid command`. */
  leftovers: readonly string[]
  deadline: number
}

export interface Verdict {
  passed: number
  failed: number
  skipped: number
  /** Names of tests that were skipped by leave. */
  skips: string[]
  /** Empty: the file has passed. */
  problems: string[]
}

/** The last summary that uvu printed, or null. */
export function parseSummary(output: string): { total: number; passed: number; skipped: number } | null {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  const plain = output.replaceAll(/\u001b\[[0-9;]*m/g, '')
  const last = [...plain.matchAll(/^ {2}Total: {5}(\d+)\n {2}Passed: {4}(\d+)\n {2}Skipped: {3}(\d+)$/gm)].at(-1)
  return last ? { total: Number(last[1]), passed: Number(last[2]), skipped: Number(last[3]) } : null
}

export function judge(ending: Ending, allowedSkips: ReadonlySet<string>): Verdict {
  const { entries } = ending
  const named = (event: 'registered' | 'only' | 'skip' | 'started' | 'passed') =>
    entries.filter((entry) => entry.event === event).map((entry) => (entry as { name: string }).name)
  const problems: string[] = []

  if (ending.killed === 'deadline') {
    const open = named('started').at(-1)
    const where = open !== undefined && !named('passed').includes(open) ? `in "${open}"` : 'outside of any test'
    problems.push(`did not end within its deadline of ${ending.deadline / 1000} s (${where}); killed`)
  } else if (ending.killed === 'lingering') {
    const resources = entries.flatMap((entry) => (entry.event === 'open' ? entry.resources : []))
    problems.push(`its tests ended but its process lived on; something was left open: ${countEach(resources) || 'unknown'}; killed`)
  } else if (ending.signal !== null) {
    problems.push(`ended by ${ending.signal}`)
  } else if (ending.code !== 0) {
    problems.push(`exit code ${ending.code}`)
  }

  for (const entry of entries) if (entry.event === 'failed') problems.push(`${entry.where} threw ${entry.error}`)

  const runs = entries.filter((entry) => entry.event === 'run').length
  if (runs === 0) problems.push('no suite ran: .run() was never called')
  if (runs > 1) problems.push(`${runs} suites ran: a file has exactly one`)
  for (const name of named('only')) problems.push(`.only was left in at "${name}"`)

  const summary = parseSummary(ending.output)
  const ran = entries.findLast((entry) => entry.event === 'ran')
  const skips = named('skip')
  if (summary === null) problems.push("uvu's summary is missing: the process ended before its tests did")
  else {
    if (summary.total === 0) problems.push('no test ran')
    if (summary.passed !== summary.total) problems.push(`only ${summary.passed} of ${summary.total} tests passed`)
    if (summary.skipped !== skips.length) problems.push(`uvu skipped ${summary.skipped} tests, ${skips.length} were seen`)
    if (!ran) problems.push('a summary was printed, but no suite went through to its end')
    if (ran && (ran.total !== summary.total || ran.passed !== summary.passed)) {
      problems.push(`the printed summary (${summary.passed} of ${summary.total}) is not what ran (${ran.passed} of ${ran.total})`)
    }
  }
  for (const name of skips) {
    if (!allowedSkips.has(name)) problems.push(`"${name}" was skipped without leave (--allow-skip ${JSON.stringify(name)})`)
  }

  const registered = [...named('registered'), ...named('only')]
  const missing = subtract(registered, named('passed'))
  for (const name of missing) {
    if (!named('started').includes(name)) problems.push(`"${name}" never ran`)
    else if (!entries.some((entry) => entry.event === 'failed')) problems.push(`"${name}" began and did not end`)
  }
  for (const name of duplicates(registered)) problems.push(`two tests are named "${name}"`)
  for (const leftover of ending.leftovers) problems.push(`left a process behind: ${leftover}; killed`)

  // A file can fail with all of its tests passed (an open handle, a leftover child): that counts as one failure.
  const failed = Math.max(missing.length, problems.length > 0 ? 1 : 0)
  return { passed: registered.length - missing.length, failed, skipped: skips.length, skips, problems }
}

/** The names in `all` without those in `taken`, each as often as it is left. */
function subtract(all: readonly string[], taken: readonly string[]): string[] {
  const left = [...taken]
  return all.filter((name) => {
    const at = left.indexOf(name)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

/** `Timeout ×3, PipeWrap ×2`. */
function countEach(names: readonly string[]): string {
  return [...new Set(names)].map((name) => `${name} ×${names.filter((other) => other === name).length}`).join(', ')
}

function duplicates(names: readonly string[]): string[] {
  return [...new Set(names.filter((name, i) => names.indexOf(name) !== i))]
}
