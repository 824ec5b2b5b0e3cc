/** `engine`: the process that owns the DuckDB file and the journal. The agent starts it; people start the agent. */

import { tellingFullDisk } from '../errors.ts'
import type { Command } from './command.ts'
import { loadEngineConfiguration } from './configuration.ts'

const command: Command = {
  usage: 'engine -c FILE',
  help: ['Started by the agent, detached: see `daemonguard run`.'],
  options: {},
  async run(call) {
    const [config, { runEngine }] = await Promise.all([loadEngineConfiguration(call), import('../engine/engine.ts')])
    return await tellingFullDisk(runEngine(config))
  },
}
export default command
