/** `adopt`: takes over an existing database file, in a process of its own because replaying a foreign WAL may abort it. */

import { tellingFullDisk } from '../errors.ts'
import type { Command } from './command.ts'
import { loadEngineConfiguration } from './configuration.ts'

const command: Command = {
  usage: 'adopt -c FILE',
  help: ['Started by the agent before the first start of the engine on an existing file.'],
  options: {},
  async run(call) {
    const [config, { runAdopt }] = await Promise.all([loadEngineConfiguration(call), import('../engine/adoption.ts')])
    return await tellingFullDisk(runAdopt(config))
  },
}
export default command
