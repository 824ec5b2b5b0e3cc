/** `demo`: see agent/demo.ts. */

import { runDemo } from '../demo.ts'
import { DaemonGuardError } from '../errors.ts'
import { type Command, jsonOption } from './command.ts'

const command: Command = {
  usage: 'demo [--json] [--keep]',
  help: [
    'The whole story in a temporary directory: trades stream in, engine and agent are killed, a byte of the database is flipped,',
    'and a ledger tells what was acknowledged, found, lost and doubled. Exit code 1 if a single acknowledged row is missing.',
    '--keep leaves the directory for a look.',
  ],
  options: { ...jsonOption, keep: { type: 'boolean' } },
  async run(call) {
    if (process.platform === 'win32')
      throw new DaemonGuardError('the demo damages a file that DuckDB has open, which Windows lets nobody do', {
        hint: 'run it on Linux; what Windows does, the README says',
      })
    return await runDemo({ json: call.json, keep: call.values.keep === true })
  },
}
export default command
