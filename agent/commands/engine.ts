/** `engine`: the process that owns the DuckDB file and the journal. The agent starts it; people start the agent. */

import { ExitCode, tellingFullDisk } from '../errors.ts'
import type { Command } from './command.ts'
import { loadEngineConfiguration } from './configuration.ts'

const command: Command = {
  usage: 'engine -c FILE',
  help: ['Started by the agent, detached: see `daemonguard run`.', '--spare: begins once there is a line on stdin; ends when that ends.'],
  options: { spare: { type: 'boolean' } },
  async run(call) {
    const [{ runEngine }, { waitForTurn }] = await Promise.all([import('../engine/engine.ts'), import('../engine/spare.ts')])
    if (call.values.spare !== true) return await tellingFullDisk(runEngine(await loadEngineConfiguration(call)))
    // Its code is there then; what it says counts when the engine begins.
    const config = await loadEngineConfiguration(call).catch(() => undefined)
    const turn = await waitForTurn({ level: config?.agent.log.level, database: config?.engine.database })
    if (turn === undefined) return ExitCode.ok
    return await tellingFullDisk(runEngine(await loadEngineConfiguration(call), turn.instance))
  },
}
export default command
