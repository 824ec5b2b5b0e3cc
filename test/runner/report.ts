/** What the recorder in a test process tells the guard: one JSON object per line in a file, written at once, so that no ending loses it. */

import fs from 'node:fs'

/** The environment variable that names the report file; the preload takes it away, so that no child of a test writes there. */
export const reportVariable = 'DAEMONGUARD_TEST_REPORT'

export type Entry =
  /** `test(name)`, `test.only(name)`, `test.skip(name)` was called. */
  | { event: 'registered' | 'only' | 'skip'; suite: number; name: string }
  /** `suite.run()` was called. */
  | { event: 'run'; suite: number }
  /** The runner of that suite went through: uvu's own numbers. */
  | { event: 'ran'; suite: number; passed: number; skipped: number; total: number }
  | { event: 'started' | 'passed'; suite: number; name: string }
  /** `where`: the test, or the hook that threw. */
  | { event: 'failed'; suite: number; where: string; error: string }
  /** What still keeps the process alive some seconds after its tests have ended. */
  | { event: 'open'; resources: string[] }

/** The entries of a report; a last line cut short by a kill is dropped. */
export function readReport(file: string): Entry[] {
  const lines = fs.readFileSync(file, 'utf8').split('\n')
  lines.pop()
  return lines.map((line) => JSON.parse(line) as Entry)
}
