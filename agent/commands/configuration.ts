/** The configuration as commands load it: with the schemas of all plugins, or without them for the engine, which knows none. */

import type { Config } from '../config.ts'
import { type Paths, pathsOf } from '../paths.ts'
import type { Call } from './command.ts'

/** Loads and validates everything; throws ConfigError (exit code 78). */
export async function loadConfiguration(call: Pick<Call, 'configFile'>): Promise<Config> {
  const [{ loadConfig }, { registry }] = await Promise.all([import('../config.ts'), import('../../plugins/index.ts')])
  return loadConfig({ file: call.configFile, registry })
}

/** The configuration as the engine needs it: its plugins are not even read. */
export async function loadEngineConfiguration(call: Pick<Call, 'configFile'>): Promise<Config> {
  const { loadConfig } = await import('../config.ts')
  return loadConfig({ file: call.configFile })
}

/** Where everything lies, for commands that ask agent or engine: a mistake in a plugin's options must not keep them from it. */
export async function locate(call: Pick<Call, 'configFile'>): Promise<{ config: Config; paths: Paths }> {
  const config = await loadEngineConfiguration(call)
  return { config, paths: pathsOf(config) }
}

/** As `readRateOf` (agent/integrity.ts) has it, for commands that no agent does. Where a plugin's options cannot be read, which must not keep them from it: the default. */
export async function locateReadRate(call: Pick<Call, 'configFile'>): Promise<number | undefined> {
  const [{ readRateOf, scanner }, { registry }] = await Promise.all([import('../integrity.ts'), import('../../plugins/index.ts')])
  const defaults = () => registry.filter(({ name }) => name === scanner).map(({ name, options }) => ({ name, options: options.parse({}) }))
  return readRateOf(await loadConfiguration(call).catch(() => ({ plugins: defaults() })))
}
