/**
 * The configuration: one YAML file, one strict schema, and every mistake told at once with its line, key and hint (exit code 78).
 * Reading touches nothing but the file itself and the secret files it names. The rooms are in agent/config/.
 */

import type { z } from 'zod'
import { type Document, readDocument } from './config/document.ts'
import type { Environment } from './config/expand.ts'
import { readConfigFile } from './config/file.ts'
import { type PluginConfig, type Registry, readPlugins } from './config/plugins.ts'
import { ConfigError } from './config/problem.ts'
import { coreSchema } from './config/schema.ts'
import { combinationProblems, type Settled, settle } from './config/settle.ts'
import { validate, valueAt } from './config/validate.ts'

export type { PluginConfig, Registry } from './config/plugins.ts'
export { ConfigError, formatProblems, type Problem, problemsToJson } from './config/problem.ts'
export { inQuietHours, type QuietHours } from './config/quiet-hours.ts'

/** All paths absolute, durations in milliseconds, sizes in bytes. */
export interface Config {
  /** Absolute path of the file it was read from. */
  file: string
  agent: Settled['agent']
  engine: Settled['engine']
  plugins: PluginConfig[]
}

export interface ConfigOptions {
  /** The built-in plugins. Left out (as by the engine, which knows no plugins): `plugins` is not read at all and stays empty. */
  registry?: Registry
  env?: Environment
  platform?: NodeJS.Platform
}

/** The text that a config was made of, for problems that are found later. */
const documents = new WeakMap<Config, Document>()

/** Reads and checks `file`, or the first of the default places. Throws ConfigError with every problem. */
export function loadConfig(options: ConfigOptions & { file?: string | undefined } = {}): Config {
  const { file, text } = readConfigFile(options.file)
  return parseConfig(text, { ...options, file })
}

/** Checks a config's text; `file` (absolute) is what relative paths and messages refer to. Throws ConfigError with every problem. */
export function parseConfig(text: string, options: ConfigOptions & { file: string }): Config {
  const { file, registry, env = process.env, platform = process.platform } = options
  const document = readDocument(text, { file, env, skip: registry === undefined ? ['plugins'] : [] })
  if (!document.readable) throw new ConfigError(file, document.problems)

  const isPlugin = (key: string) => registry?.some((plugin) => plugin.name === key)
  const core = validate(coreSchema(env, platform), document.value, {
    document,
    base: [],
    elsewhere: (key) => (isPlugin(key) ? 'plugins' : undefined),
  })
  const problems = [...document.problems, ...core.problems]
  const settled = core.value === undefined ? undefined : settle(core.value, document, env, platform)
  if (core.value !== undefined && settled !== undefined) {
    problems.push(...combinationProblems(settled, core.faulty, core.value, document, platform))
  }
  const section = readPlugins(valueAt(document.value, ['plugins']), registry ?? [], document)
  problems.push(...section.problems)
  if (problems.length > 0 || settled === undefined) throw new ConfigError(file, problems)

  const config: Config = { file, agent: settled.agent, engine: settled.engine, plugins: section.plugins }
  documents.set(config, document)
  return config
}

/** Checks a local plugin's options once its schema is known. Throws ConfigError with the lines of the config's file. */
export function parsePluginOptions<S extends z.ZodType>(config: Config, name: string, schema: S): z.output<S> {
  const plugin = config.plugins.find((each) => each.name === name)
  const { value, problems } = validate(schema, plugin?.options ?? {}, { document: documentOf(config), base: ['plugins', name] })
  if (problems.length > 0) throw new ConfigError(config.file, problems)
  return value as z.output<S>
}

/** The places of a config's keys; of a Config that was not made here, no places. */
export function documentOf(config: Config): Document {
  return documents.get(config) ?? readDocument('', { file: config.file, env: {} })
}
