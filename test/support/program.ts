/** The program that tests start: these sources, or the packed executable when `npm test -- --binary` runs (test/run.ts). */

import { selfCommand } from '../../agent/runtime.ts'

/** Names the packed executable; it is handed down to every test process. */
export const binaryVariable = 'DAEMONGUARD_TEST_BINARY'

/** The command that starts the sources, also under --binary: nothing can watch the steps of the packed executable (test/fault/support/injector.ts). */
export const sourceCommand = selfCommand

/** The command that starts DaemonGuard; a subcommand and its options are to be appended to `args`. */
export function programCommand(): { command: string; args: string[] } {
  const binary = process.env[binaryVariable]
  return binary === undefined ? selfCommand() : { command: binary, args: [] }
}
