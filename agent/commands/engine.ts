/** `engine`: the process that owns the DuckDB file and the journal. The agent starts it; people start the agent. */

import { ExitCode, tellingFullDisk } from '../errors.ts'
import type { Command } from './command.ts'
import { loadEngineConfiguration } from './configuration.ts'

const command: Command = {
  usage: 'engine -c FILE',
  help: ['Started by the agent, detached: see `daemonguard run`.', '--spare: begins once there is a line on stdin; ends when that ends.'],
  options: { spare: { type: 'boolean' } },
  async run(call) {
    const [{ runEngine }, { waitForTurn }, { endProcess }] = await Promise.all([
      import('../engine/engine.ts'),
      import('../engine/spare.ts'),
      import('../engine/end.ts'),
    ])
    // An end in order is one at once as well: a thread for queries that is just starting then would abort the process.
    const run = async (...parameters: Parameters<typeof runEngine>) => endProcess(await tellingFullDisk(runEngine(...parameters)))
    if (call.values.spare !== true) return run(await loadEngineConfiguration(call))
    // Its code is there then; what it says counts when the engine begins.
    const config = await loadEngineConfiguration(call).catch(() => undefined)
    const turn = await waitForTurn({ level: config?.agent.log.level, database: config?.engine.database })
    if (turn === undefined) return ExitCode.ok
    return run(await loadEngineConfiguration(call), turn.prepared)
  },
}
export default command
