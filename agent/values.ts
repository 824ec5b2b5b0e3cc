/**
 * The values that operators write in config.yaml, as zod schemas that the core schema and plugins share:
 * durations, sizes, rates, cron expressions, listen addresses, secrets, URLs, file paths.
 * A message never repeats the value: it may have come from an environment variable and be a secret.
 * Defaults: `.default()` takes the parsed value, `.prefault('5s')` the written one.
 */

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import * as cronParser from 'node-cron'
import { z } from 'zod'
import { lookAt } from './shell.ts'

/** What a parser says instead of a value: what is wrong, and what to write. */
export class Mistake {
  readonly message: string
  readonly hint: string
  constructor(message: string, hint: string) {
    this.message = message
    this.hint = hint
  }
}

/** A schema of one written text. `expected` completes "expected …"; `hint` is for what is no text at all. */
export function written<T>(expected: string, hint: string, parse: (text: string) => T | Mistake): z.ZodType<T, string> {
  const read = (value: unknown) => {
    if (typeof value === 'string') return parse(value)
    return new Mistake(value === undefined ? `missing: expected ${expected}` : `expected ${expected}`, hint)
  }
  const schema = z.unknown().transform((value, ctx): T => {
    const result = read(value)
    if (!(result instanceof Mistake)) return result
    ctx.issues.push({ code: 'custom', message: result.message, input: value, params: { hint: result.hint } })
    return z.NEVER
  })
  return schema as unknown as z.ZodType<T, string>
}

const durationUnits: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
/** DuckDB's own reading: KB, MB … are powers of 1000, KiB, MiB … powers of 1024. */
const sizeUnits: Record<string, number> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  TIB: 1024 ** 4,
}

function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(text.trim())
  return match === null ? undefined : Math.round(Number(match[1]) * durationUnits[match[2]!]!)
}

function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?)?B$/i.exec(text.trim())
  return match === null ? undefined : Math.round(Number(match[1]) * sizeUnits[`${match[2] ?? ''}B`.toUpperCase()]!)
}

interface Bounds {
  /** Smallest value accepted, as written ('1s'). */
  min?: string
  /** Largest value accepted, as written. */
  max?: string
}

function bounded(value: number, bounds: Bounds, parse: (text: string) => number | undefined): number | Mistake {
  const { min, max } = bounds
  if (min !== undefined && value < parse(min)!) return new Mistake(`too small: the least is ${min}`, `write ${min} or more`)
  if (max !== undefined && value > parse(max)!) return new Mistake(`too large: the most is ${max}`, `write ${max} or less`)
  return value
}

/** "500ms", "5s", "10m", "1h", "7d" → whole milliseconds. At most 24d unless `max` says more: JavaScript's timers overflow beyond. */
export function duration(bounds: Bounds = {}): z.ZodType<number, string> {
  const hint = 'write a number with its unit: 500ms, 5s, 10m, 1h or 7d'
  return written('a duration such as 5s, 2ms or 1h', hint, (text) => {
    const value = parseDuration(text)
    if (value === undefined) return new Mistake('not a duration: expected a number and a unit, such as 5s, 2ms or 1h', hint)
    return bounded(value, { ...bounds, max: bounds.max ?? '24d' }, parseDuration)
  })
}

/** "4GB", "512MiB", "100KB" → bytes (KB, MB, GB: powers of 1000; KiB, MiB, GiB: powers of 1024, as in DuckDB). */
export function size(bounds: Bounds = {}): z.ZodType<number, string> {
  const hint = 'write a number with its unit: 512MB, 4GB or 1GiB'
  return written('a size such as 4GB or 512MB', hint, (text) => {
    const value = parseSize(text)
    return value === undefined
      ? new Mistake('not a size: expected a number and a unit, such as 4GB or 512MB', hint)
      : bounded(value, bounds, parseSize)
  })
}

/** "200MB" or "200MB/s" → bytes a second, at least 1. */
export function rate(): z.ZodType<number, string> {
  const hint = 'write a size, per second: 200MB'
  return written('a rate such as 200MB (per second)', hint, (text) => {
    const value = parseSize(text.replace(/\s*\/\s*s\s*$/, ''))
    if (value === undefined) return new Mistake('not a rate: expected a size per second, such as 200MB', hint)
    return value < 1 ? new Mistake('too small: a rate of nothing would never end', hint) : value
  })
}

/** A cron expression of 5 fields, or 6 with seconds first, as node-cron reads it. */
export function cron(): z.ZodType<string, string> {
  const hint = 'write 5 fields (minute hour day month weekday), or 6 with seconds first, in quotes: "*/15 * * * *"'
  return written('a cron expression in quotes', hint, (text) => {
    const result = cronParser.validateDetailed(text.trim())
    if (result.valid) return text.trim()
    const fields = text.split(/\s+/).filter((field) => field !== '').length
    if (fields !== 5 && fields !== 6) return new Mistake(`not a cron expression: it has ${fields} fields, expected 5 or 6`, hint)
    const wrong = [...new Set(result.errors.map((error) => cronFields[error.field] ?? error.field))]
    return new Mistake(`not a cron expression: the ${wrong.join(', ')} field${wrong.length > 1 ? 's are' : ' is'} invalid`, hint)
  })
}

const cronFields: Record<string, string> = { dayOfMonth: 'day', dayOfWeek: 'weekday' }

export interface Address {
  readonly host: string
  readonly port: number
}

/** "127.0.0.1:5433", "localhost:5433" or "[::1]:5433". Port 0 means any free one. */
export function listenAddress(): z.ZodType<Address, string> {
  const hint = 'write host:port, such as 127.0.0.1:5433 or "[::1]:5433"'
  return written('an address such as 127.0.0.1:5433', hint, (text) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text.trim())
    if (match === null) return new Mistake('not an address: expected host:port', hint)
    const host = match[1] ?? match[2]!
    const port = Number(match[3])
    if (match[1] !== undefined && !net.isIPv6(host)) return new Mistake('not an address: the part in brackets is no IPv6 address', hint)
    if (/^[\d.]+$/.test(host) && !net.isIPv4(host)) return new Mistake('not an address: the host is no IPv4 address', hint)
    return port > 65535 ? new Mistake('not an address: the largest port is 65535', hint) : { host, port }
  })
}

const loopback = new net.BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')
loopback.addSubnet('::ffff:127.0.0.0', 104, 'ipv6')

/** Whether only programs of this machine reach the host: 127.0.0.0/8, ::1, localhost. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost') return true
  return net.isIP(host) !== 0 && loopback.check(host, net.isIPv6(host) ? 'ipv6' : 'ipv4')
}

/** What is wrong with the mode of a file that holds a secret; undefined when only its owner and its group can read it. */
export function exposure(file: string): Mistake | undefined {
  const { mode } = fs.statSync(file)
  if (process.platform === 'win32' || (mode & 0o007) === 0) return undefined
  return new Mistake(`${file} holds a secret, and every user of this machine may use it`, `chmod 600 ${file} (or 640, with its group)`)
}

/** Reads `file:/path` (one trailing newline dropped); any other text is the value itself. */
function readSecret(text: string): string | Mistake {
  if (!text.startsWith('file:')) return text
  const file = text.slice('file:'.length).replace(/^\/\/(?=\/)/, '')
  if (!path.isAbsolute(file)) return new Mistake('a secret file is named by its absolute path', 'write file:/etc/daemonguard/secret')
  try {
    const content = fs.readFileSync(file, 'utf8').replace(/\r?\n$/, '')
    const exposed = exposure(file)
    if (exposed !== undefined) return exposed
    return content === '' ? new Mistake(`the secret file ${file} is empty`, 'put the secret on its first line') : content
  } catch (error) {
    const reason =
      { ENOENT: 'there is no such file', EACCES: 'permission denied' }[String((error as NodeJS.ErrnoException).code)] ?? 'it cannot be read'
    return new Mistake(`the secret file ${file}: ${reason}`, `make it readable for this user: ${lookAt(file)}`)
  }
}

/** A password or token: the text itself, or `file:/path`, whose content it then is. Never put it in a log or an error. */
export function secret(): z.ZodType<string, string> {
  return written('a text or file:/path', 'write the secret in quotes, "${VARIABLE}" or file:/path', (text) => {
    return text === '' ? new Mistake('must not be empty', 'write the secret, "${VARIABLE}" or file:/path') : readSecret(text)
  })
}

/** A URL of one of the schemes ('http', 'https', 'redis', …), or `file:/path` that holds it. It may carry a password: log `withoutCredentials(url)`. */
export function url(...schemes: string[]): z.ZodType<string, string> {
  const hint = `write ${schemes.map((scheme) => `${scheme}://host:port`).join(' or ')}, or file:/path of a file that holds it`
  return written(`a URL (${schemes.join(', ')})`, hint, (text) => {
    const value = readSecret(text.trim())
    if (value instanceof Mistake) return value
    const parsed = URL.parse(value)
    if (parsed === null) return new Mistake('not a URL', hint)
    if (!schemes.includes(parsed.protocol.slice(0, -1)))
      return new Mistake(`not a URL of this kind: expected ${schemes.join(' or ')}`, hint)
    return parsed.hostname === '' ? new Mistake('a URL without a host', hint) : value
  })
}

/** A URL as a log may show it: scheme, host, port and path. User, password, query and fragment are left out. */
export function withoutCredentials(text: string): string {
  const parsed = URL.parse(text)
  return parsed === null || parsed.host === ''
    ? '(a URL)'
    : `${parsed.protocol}//${parsed.host}${parsed.pathname === '/' ? '' : parsed.pathname}`
}

/** A path as written, absolute or relative; what it is relative to is decided by the option. */
export function filePath(): z.ZodType<string, string> {
  return written('a path', 'write a path, such as /var/lib/daemonguard', (text) => {
    if (text === '') return new Mistake('must not be empty', 'write a path, or remove the key for its default')
    if (text.includes('\0')) return new Mistake('a path cannot hold a NUL character', 'remove it')
    return /^~(?:[/\\]|$)/.test(text) ? new Mistake('~ is not expanded', 'write "${HOME}/…" or the whole path') : text
  })
}
