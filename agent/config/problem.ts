/** What is wrong with a config, one entry per mistake, and how it is told to people and programs. */

import { DaemonGuardError, ExitCode } from '../errors.ts'

export interface Problem {
  /** 1-based; null where no line is to blame (a file that is not there, a default that does not fit this machine). */
  line: number | null
  column: number | null
  /** Path of the key, `engine.listen`, `agent.alerts[0]`; '' for the file as a whole. */
  key: string
  /** What is wrong. Never repeats a value. */
  message: string
  /** What to change or to type next. */
  hint: string
  /** It works as it is, for now. */
  warning?: true
}

/** Every mistake of one config at once; exit code 78. */
export class ConfigError extends DaemonGuardError {
  readonly problems: readonly Problem[]
  readonly file: string

  constructor(file: string, problems: readonly Problem[]) {
    const sorted = inOrder(problems)
    const first = sorted[0]
    super(sorted.length === 1 ? 'the config has a problem' : `the config has ${sorted.length} problems`, {
      where: first === undefined || first.line === null ? file : `${file}:${first.line}`,
      hint: first?.hint,
      exitCode: ExitCode.config,
    })
    this.name = 'ConfigError'
    this.file = file
    this.problems = sorted
  }

  /** All problems, for a terminal. */
  override describe(): string {
    return formatProblems(this.problems, this.file)
  }
}

/** By place in the file, each once (an anchor's mistake would appear at every alias). */
export function inOrder(problems: readonly Problem[]): Problem[] {
  const seen = new Set<string>()
  const unique = problems.filter((problem) => {
    const identity = `${problem.line}:${problem.column}:${problem.line === null ? problem.key : ''}:${problem.message}`
    return !seen.has(identity) && seen.add(identity)
  })
  return unique.sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
}

/** Lines for a terminal: `FILE:LINE:COLUMN  KEY: MESSAGE`, with the hint below each. */
export function formatProblems(problems: readonly Problem[], file: string): string {
  const count = problems.filter(({ warning }) => !warning).length
  const lines = [count === 0 ? `${file}: ok` : `${file}: ${count} problem${count === 1 ? '' : 's'}`]
  for (const { line, column, key, message, hint, warning } of inOrder(problems)) {
    const place = line === null ? '' : `line ${line}, column ${column}: `
    lines.push(`  ${warning ? 'warning: ' : ''}${place}${key === '' ? '' : `${key}: `}${message}`, `    hint: ${hint}`)
  }
  return lines.join('\n')
}

/** The same for programs (`check --json`). */
export function problemsToJson(problems: readonly Problem[], file: string): { file: string; ok: boolean; problems: Problem[] } {
  return { file, ok: problems.every(({ warning }) => warning), problems: inOrder(problems) }
}

export type KeyPath = readonly (string | number)[]

/** `engine.write_buffer.rows`, `agent.alerts[0].webhook`, `plugins["./x.mjs"].url`. */
export function keyName(path: KeyPath): string {
  return path.reduce<string>((name, key) => {
    if (typeof key === 'number') return `${name}[${key}]`
    if (!/^[\w-]+$/.test(key)) return `${name}[${JSON.stringify(key)}]`
    return name === '' ? key : `${name}.${key}`
  }, '')
}
