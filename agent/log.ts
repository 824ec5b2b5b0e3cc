/** Structured log: JSON lines for services, readable lines on a terminal (pino). Never pass a secret to it. */

import { type Logger, pino } from 'pino'
import pretty from 'pino-pretty'

export type Log = Logger
export type LogFormat = 'json' | 'pretty'

/** `format` undefined: pretty on a terminal, JSON otherwise. Writes to stdout, synchronously, so that a dying process loses no line. */
export function createLog(options: { level?: string; format?: LogFormat; name: string; destination?: number }): Log {
  const fd = options.destination ?? 1
  const format = options.format ?? (fd === 1 && process.stdout.isTTY ? 'pretty' : 'json')
  const settings = { level: options.level ?? 'info', base: { name: options.name, pid: process.pid } }
  if (format === 'pretty') {
    return pino(settings, pretty({ colorize: process.stdout.isTTY, ignore: 'pid,hostname', destination: fd, sync: true }))
  }
  return pino({ ...settings, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd, sync: true }))
}

/** A log that writes nothing. */
export const silentLog: Log = pino({ level: 'silent' })
