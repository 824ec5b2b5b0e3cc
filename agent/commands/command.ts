/** What a command is, and how its arguments are read (node:util parseArgs, with errors that name what was probably meant). */

import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import { nearest } from '../config/suggest.ts'
import { DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { toJson } from '../status-report.ts'

export interface Command {
  /** `scan [FILE]`: as in the help, without the program's name. */
  readonly usage: string
  /** What it does, exit codes where they mean something, examples; one line each. */
  readonly help: readonly string[]
  /** Options beside --config and --help. */
  readonly options: ParseArgsOptionsConfig
  /** How many positional arguments it takes. */
  readonly positionals?: { readonly least: number; readonly most: number }
  /** Does it; resolves with the exit code. Errors for the operator are thrown. */
  run(call: Call): Promise<number>
}

/** One call of a command. */
export interface Call {
  readonly values: Readonly<Record<string, string | boolean | undefined>>
  readonly positionals: readonly string[]
  /** -c FILE, or undefined for the default places. */
  readonly configFile: string | undefined
  readonly json: boolean
}

/** The option of every command that prints facts. */
export const jsonOption = { json: { type: 'boolean' } } as const satisfies ParseArgsOptionsConfig

/** Options of every command. */
export const globalOptions = {
  config: { type: 'string', short: 'c' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsOptionsConfig

/** A mistake in what was typed: exit code 2. */
export class UsageError extends DaemonGuardError {
  constructor(message: string, hint: string) {
    super(message, { hint, exitCode: ExitCode.usage })
  }
}

/** Reads a command's arguments; throws UsageError for the first one that does not belong. */
export function readArguments(name: string, command: Command, args: readonly string[]): Call & { help: boolean } {
  const options: ParseArgsOptionsConfig = { ...globalOptions, ...command.options }
  const help = `daemonguard ${name} --help`
  // Not strict: its errors name neither the nearest option nor what a missing value is for. The tokens say all of it.
  const { values, positionals, tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true })
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined
    if (option === undefined) {
      const known = Object.keys(options).map((each) => `--${each}`)
      throw new UsageError(`${name} knows no option ${token.rawName}`, `${didYouMean(token.rawName, known)}${help}`)
    }
    if (option.type === 'string' && (token.value === undefined || token.value === ''))
      throw new UsageError(`${token.rawName} needs a value`, help)
    if (option.type === 'boolean' && token.value !== undefined) throw new UsageError(`${token.rawName} takes no value`, help)
  }
  const { least, most } = command.positionals ?? { least: 0, most: 0 }
  if (values.help !== true) {
    if (positionals.length > most) throw new UsageError(`${name} does not take "${positionals[most]}"`, help)
    if (positionals.length < least) throw new UsageError(`${name} needs more: ${command.usage}`, help)
  }
  return {
    values: values as Call['values'],
    positionals,
    configFile: values.config as string | undefined,
    json: values.json === true,
    help: values.help === true,
  }
}

/** `did you mean scan? ` when something is near enough, else ''. */
export function didYouMean(typed: string, known: readonly string[]): string {
  const near = known.find((name) => name.startsWith(typed)) ?? nearest(typed, known)
  return near === undefined ? '' : `did you mean ${near}? `
}

/** Prints lines for people, or the facts as one JSON document. */
export function print(call: Pick<Call, 'json'>, facts: unknown, lines: readonly string[]): void {
  process.stdout.write(call.json ? `${toJson(facts, 2)}\n` : `${lines.join('\n')}\n`)
}

/** Prints an error (JSON on stdout when facts were asked for as JSON) and gives the exit code to end with. */
export function printError(error: unknown, json: boolean): number {
  const known = error instanceof DaemonGuardError ? error : undefined
  if (json) process.stdout.write(`${toJson({ error: { message: messageOf(error), where: known?.where, hint: known?.hint } }, 2)}\n`)
  process.stderr.write(`daemonguard: ${known?.describe() ?? (error instanceof Error ? error.stack : messageOf(error))}\n`)
  return known?.exitCode ?? ExitCode.failed
}
