/** `check`: everything that is wrong with the configuration and its environment, at once. Touches nothing. */

import { checkEnvironment } from '../check.ts'
import { ConfigError, formatProblems, type Problem, problemsToJson } from '../config.ts'
import { ExitCode } from '../errors.ts'
import { resolvePlugins } from '../local-plugins.ts'
import { type Call, type Command, jsonOption, print } from './command.ts'
import { loadConfiguration } from './configuration.ts'

const command: Command = {
  usage: 'check [--json] [-c FILE]',
  help: [
    'Validates the configuration and its environment: every problem with its line, its key and a hint. Exit codes: 0 ok, or warnings only; 78 problems.',
  ],
  options: jsonOption,
  async run(call) {
    try {
      const config = await loadConfiguration(call)
      const { registry } = await import('../../plugins/index.ts')
      resolvePlugins(config, registry)
      return tell(call, config.file, await checkEnvironment(config))
    } catch (error) {
      if (error instanceof ConfigError) return tell(call, error.file, error.problems)
      throw error
    }
  },
}
export default command

function tell(call: Call, file: string, problems: readonly Problem[]): number {
  print(call, problemsToJson(problems, file), [formatProblems(problems, file)])
  return problems.every(({ warning }) => warning) ? ExitCode.ok : ExitCode.config
}
