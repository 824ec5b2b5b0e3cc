/** `licenses`: of everything inside the executable; build/licenses.ts has collected them. */

import { DaemonGuardError, ExitCode } from '../errors.ts'
import { packedText } from '../runtime.ts'
import type { Command } from './command.ts'

const command: Command = {
  usage: 'licenses',
  help: ['Prints the licences of DaemonGuard and of everything inside this executable: Node, DuckDB, libraries.'],
  options: {},
  async run() {
    const text = packedText('licenses')
    if (text === undefined)
      throw new DaemonGuardError('this program runs from its sources: nothing is inside it', {
        hint: 'each package under node_modules has its own; or npm run build, then dist/daemonguard licenses',
      })
    process.stdout.write(text)
    return ExitCode.ok
  },
}
export default command
