/** Structured log: JSON lines for services, readable lines on a terminal (pino). Never pass a secret to it. */

import { Writable } from 'node:stream'
import { type Logger, pino } from 'pino'
import pretty from 'pino-pretty'

export type Log = Logger
export type LogFormat = 'json' | 'pretty'

/** Lines (in bytes) that wait for space when the log's disk is full; what is more is dropped. */
const waitingBytes = 1 << 20

/** `format` undefined: pretty on a terminal, JSON otherwise. Writes to stdout, synchronously, so that a dying process loses no line. */
export function createLog(options: { level?: string; format?: LogFormat; name: string; destination?: number }): Log {
  const fd = options.destination ?? 1
  const format = options.format ?? (fd === 1 && process.stdout.isTTY ? 'pretty' : 'json')
  const settings = { level: options.level ?? 'info', base: { name: options.name, pid: process.pid } }
  const destination = pino.destination({ fd, sync: true, maxLength: waitingBytes })
  // A log that cannot be written must not end the process: its lines wait, and go out with a later one.
  destination.on('error', () => {})
  if (format === 'pretty') {
    // Its pipe would end for good at the first error.
    const lines = new Writable({ decodeStrings: false, write: (line, _, done) => done(void destination.write(line)) })
    return pino(settings, pretty({ colorize: process.stdout.isTTY, ignore: 'pid,hostname', destination: lines }))
  }
  return pino({ ...settings, timestamp: pino.stdTimeFunctions.isoTime }, destination)
}

/** A log that writes nothing. */
export const silentLog: Log = pino({ level: 'silent' })
