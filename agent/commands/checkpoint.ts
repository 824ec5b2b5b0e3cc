/** `checkpoint`: asks the engine itself; whether an agent runs does not matter. */

import { EngineClient } from '../engine-client.ts'
import { DaemonGuardError, ExitCode } from '../errors.ts'
import { type Command, jsonOption, print } from './command.ts'
import { locate } from './configuration.ts'

const command: Command = {
  usage: 'checkpoint [--json] [-c FILE]',
  help: ['Brings the DuckDB file up to the journal now. It is refused, harmlessly, while open transactions stand in the way: exit code 1.'],
  options: jsonOption,
  async run(call) {
    const { paths } = await locate(call)
    const client = await EngineClient.connect(paths.controlSocket).catch((error) => {
      throw new DaemonGuardError('no engine runs on this data directory', {
        where: paths.controlSocket,
        hint: 'daemonguard run',
        exitCode: ExitCode.unknown,
        cause: error,
      })
    })
    try {
      const started = performance.now()
      const { watermark } = await client.checkpoint()
      const durationMs = Math.round(performance.now() - started)
      print(call, { watermark, durationMs }, [`the database file holds everything up to seq ${watermark} (${durationMs} ms)`])
      return ExitCode.ok
    } finally {
      client.close()
    }
  },
}
export default command
