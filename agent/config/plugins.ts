/** The `plugins` section: which plugins run, with which options. Knows no plugin: names and schemas come from the registry. */

import fs from 'node:fs'
import path from 'node:path'
import type { z } from 'zod'
import type { Document } from './document.ts'
import { unknownValue } from './document.ts'
import { keyName, type Problem } from './problem.ts'
import { nearest } from './suggest.ts'
import { kindOf, validate } from './validate.ts'

/** What the config needs to know of a built-in plugin. */
export type Registry = readonly { readonly name: string; readonly options: z.ZodType }[]

export interface PluginConfig {
  /** Its name; of a local plugin the path as written. */
  name: string
  /** Built-in: parsed by its schema. Local: as written, to be checked with `parsePluginOptions` once its module is loaded. */
  options: unknown
  /** Absolute path of a local plugin's module; undefined for a built-in one. */
  module?: string
}

/** These run unless they are set to false. */
const byDefault = ['watchdog', 'checkpointer', 'integrity-scanner']

/** Plugins that run: built-in ones in the registry's order, then local ones in the file's. */
export function readPlugins(section: unknown, registry: Registry, document: Document): { plugins: PluginConfig[]; problems: Problem[] } {
  const problems: Problem[] = []
  const report = (key: string | undefined, message: string, hint: string, part: 'key' | 'value' = 'key') => {
    const keyPath = key === undefined ? ['plugins'] : ['plugins', key]
    const place = document.locate(keyPath, part)
    problems.push({ line: place?.line ?? null, column: place?.column ?? null, key: keyName(keyPath), message, hint })
  }
  const entries = new Map<string, unknown>()
  if (typeof section === 'object' && section !== null && !Array.isArray(section)) {
    for (const [name, options] of Object.entries(section)) entries.set(name, options)
  } else if (section !== undefined && section !== null && section !== unknownValue) {
    report(undefined, `expected a map (name: options), got ${kindOf(section)}`, 'write one plugin a line: "watchdog: {}"')
  }

  const plugins: PluginConfig[] = []
  const accepts = (name: string, options: unknown): options is object | boolean | null => {
    if (options === unknownValue) return false
    if (options === null || typeof options === 'boolean' || (typeof options === 'object' && !Array.isArray(options))) return true
    report(
      name,
      `expected options (a map), true or false, got ${kindOf(options)}`,
      'write {} for its defaults, or false to turn it off',
      'value',
    )
    return false
  }
  for (const { name, options: schema } of registry) {
    const options = entries.has(name) ? entries.get(name) : byDefault.includes(name) ? {} : false
    if (!accepts(name, options) || options === false) continue
    const checked = validate(schema, typeof options === 'object' && options !== null ? options : {}, { document, base: ['plugins', name] })
    problems.push(...checked.problems)
    plugins.push({ name, options: checked.value })
  }
  for (const [name, options] of entries) {
    if (registry.some((plugin) => plugin.name === name)) continue
    if (!isLocal(name)) {
      report(name, 'there is no plugin of this name', unknownPluginHint(name, registry))
      continue
    }
    if (!accepts(name, options) || options === false) continue
    const module = path.resolve(path.dirname(document.file), name)
    if (!isFile(module)) report(name, 'there is no such module', `its path is read from the directory of the config: ls ${module}`)
    plugins.push({ name, options: typeof options === 'object' && options !== null ? options : {}, module })
  }
  return { plugins, problems }
}

function isLocal(name: string): boolean {
  return /^\.{1,2}[/\\]/.test(name) || path.isAbsolute(name)
}

function isFile(file: string): boolean {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false
}

function unknownPluginHint(name: string, registry: Registry): string {
  const names = registry.map((plugin) => plugin.name)
  if (/[/\\]|\.[cm]?[jt]s$/.test(name)) return `a local plugin is named by its path: ./${name}`
  const meant = nearest(name, names)
  return meant === undefined
    ? `the plugins are ${names.join(', ')}; a local one is named by its path: ./my-plugin.mjs`
    : `did you mean ${meant}?`
}
