/** A small registry and shorthands for the config tests. */

import { z } from 'zod'
import { type Config, ConfigError, type ConfigOptions, type Problem, parseConfig } from '../../agent/config.ts'
import { cron, duration, rate, secret, url } from '../../agent/values.ts'

export const registry = [
  {
    name: 'watchdog',
    options: z.strictObject({
      schedule: cron().default('*/5 * * * * *'),
      timeout: duration().prefault('2s'),
      max_restarts: z.int().positive().default(3),
    }),
  },
  { name: 'integrity-scanner', options: z.strictObject({ max_read_rate: rate().prefault('200MB') }) },
  {
    name: 'redis-mirror',
    options: z.strictObject({
      url: url('redis', 'rediss').prefault('redis://127.0.0.1:6379'),
      password: secret().optional(),
      tables: z.array(z.string()).default(['*']),
    }),
  },
]

export const file = '/etc/daemonguard/config.yaml'

/** Parses without the environment of the machine. */
export function parse(text: string, options: Partial<ConfigOptions & { file: string }> = {}): Config {
  return parseConfig(text, { file, registry, env: {}, platform: 'linux', ...options })
}

/** The problems of a config that must not pass. */
export function problemsOf(text: string, options: Partial<ConfigOptions & { file: string }> = {}): readonly Problem[] {
  return errorOf(text, options).problems
}

export function errorOf(text: string, options: Partial<ConfigOptions & { file: string }> = {}): ConfigError {
  try {
    parse(text, options)
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
  throw new Error(`the config passed: ${text}`)
}

/** `LINE:COLUMN KEY: MESSAGE`, one a problem. */
export function lines(problems: readonly Problem[]): string[] {
  return problems.map(({ line, column, key, message }) => `${line}:${column} ${key}: ${message}`)
}
