#!/usr/bin/env node
/** The command line: finds the command, reads its arguments, calls it, ends with its exit code. It decides nothing. */

import { parseArgs } from 'node:util'
import { didYouMean, globalOptions, printError, readArguments, UsageError } from './commands/command.ts'
import { commands } from './commands/index.ts'
import { ExitCode } from './errors.ts'
import { commandLine, version } from './runtime.ts'

async function main(args: string[]): Promise<number> {
  const { values, tokens } = parseArgs({
    args,
    options: { ...globalOptions, version: { type: 'boolean', short: 'V' } },
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  const first = tokens.find((token) => token.kind === 'positional')
  if (first === undefined) {
    if (values.version === true) process.stdout.write(`${version}\n`)
    else if (values.help === true) process.stdout.write(overview())
    else if (args.length > 0 && tokens[0]?.kind === 'option')
      throw new UsageError(`no command, and no option ${tokens[0].rawName} without one`, 'daemonguard --help')
    else throw new UsageError('no command', 'daemonguard --help')
    return ExitCode.ok
  }
  const entry = commands.find(({ name }) => name === first.value)
  if (entry === undefined) {
    const visible = commands.filter(({ hidden }) => !hidden).map(({ name }) => name)
    throw new UsageError(`unknown command "${first.value}"`, `${didYouMean(first.value, visible)}daemonguard --help`)
  }
  const { default: command } = await entry.load()
  const call = readArguments(entry.name, command, args.toSpliced(first.index, 1))
  if (call.help) {
    process.stdout.write(`daemonguard ${command.usage}\n\n${command.help.join('\n')}\n`)
    return ExitCode.ok
  }
  try {
    return await command.run(call)
  } catch (error) {
    return printError(error, call.json)
  }
}

function overview(): string {
  const visible = commands.filter(({ hidden }) => !hidden)
  const width = Math.max(...visible.map(({ name }) => name.length))
  return `DaemonGuard ${version}: makes DuckDB survive.

daemonguard COMMAND [options]

${visible.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}

  -c, --config FILE  the configuration (default: ./config.yaml, then ${process.platform === 'win32' ? '%ProgramData%\\DaemonGuard\\config.yaml' : '/etc/daemonguard/config.yaml'})
  --json             facts as JSON, for every command that prints facts
  -h, --help         this text, or that of a command
  --version          the version

Exit codes: 0 ok; 1 failed, damaged or unhealthy; 2 usage; 3 unknown or inconclusive; 78 bad configuration.
`
}

// A reader that stops early (`| head`) is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? ExitCode.ok : printError(error, false)))

void main(commandLine())
  .catch((error) => printError(error, false))
  .then((exitCode) => {
    process.exitCode = exitCode
    // A stray handle (a library's timer) must not keep a finished command alive; what was printed is flushed first.
    process.stderr.write('', () => process.stdout.write('', () => process.exit()))
  })
