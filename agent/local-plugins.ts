/** Plugins of the config as things that run: the built-in ones from the registry, local ones loaded from their path. */

import { createRequire } from 'node:module'
import { type Config, parsePluginOptions } from './config.ts'
import { DaemonGuardError, ExitCode, messageOf } from './errors.ts'
import type { Plugin } from './plugin.ts'
import type { ConfiguredPlugin } from './plugin-host.ts'

/** Every configured plugin with its parsed options; throws DaemonGuardError (exit code 78) for a local one that is none. */
export function resolvePlugins(config: Config, registry: readonly Plugin[]): ConfiguredPlugin[] {
  const names = new Set<string>()
  return config.plugins.map(({ name, options, module }) => {
    const builtIn = registry.find((each) => each.name === name)
    const plugin = builtIn ?? loadLocal(name, module ?? name)
    if (names.has(plugin.name)) throw refusal(name, module ?? name, `is named ${plugin.name}, as another plugin is`)
    names.add(plugin.name)
    if (builtIn !== undefined || plugin.options === undefined) return { plugin, options }
    return { plugin, options: parsePluginOptions(config, name, plugin.options) }
  })
}

/** `key`: as in the config; `file`: absolute. */
function loadLocal(key: string, file: string): Plugin {
  let plugin: Partial<Plugin> | undefined
  try {
    // require() loads ES modules as well, and works in the packed executable, where import() of a file does not.
    const exported = createRequire(file)(file) as { default?: Partial<Plugin> }
    plugin = exported.default ?? (exported as Partial<Plugin>)
  } catch (error) {
    throw refusal(key, file, `cannot be loaded: ${messageOf(error)}`, error)
  }
  if (typeof plugin?.name !== 'string' || !/^[a-z][a-z0-9-]*$/.test(plugin.name))
    throw refusal(key, file, 'has no name of lower-case letters, digits and dashes')
  if (typeof plugin.start !== 'function') throw refusal(key, file, 'has no start(context, options)')
  return plugin as Plugin
}

function refusal(key: string, file: string, what: string, cause?: unknown): DaemonGuardError {
  return new DaemonGuardError(`the plugin ${key} ${what}`, {
    where: file,
    hint: 'correct it, then: daemonguard check',
    exitCode: ExitCode.config,
    cause,
  })
}
