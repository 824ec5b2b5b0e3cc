/**
 * Windows' event log: what an administrator is to see in the Event Viewer without looking for our log: starts, stops, alerts, incidents.
 *
 * The texts of events come from a library that the source names. Ours names EventCreate.exe, a part of Windows, whose messages 1 to 1000 are all "%1",
 * the text that is given with the event; so no library of our own is needed.
 */

import { lastError } from './kernel.ts'
import { serviceCalls } from './service-calls.ts'

export type EventLevel = 'info' | 'warning' | 'error'

/** The numbers of our events; between 1 and 1000. */
export const EventId = { started: 1, stopped: 2, failed: 3, alert: 10, incident: 11, incidentClosed: 12 } as const

// EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE, EVENTLOG_ERROR_TYPE
const types: Record<EventLevel, number> = { info: 4, warning: 2, error: 1 }
/** Characters of one string; ReportEventW's own limit is 31,839. */
const longest = 30_000

const HKEY_LOCAL_MACHINE = -2147483646
const REG_EXPAND_SZ = 2
const REG_DWORD = 4

export class EventLog {
  #log: number

  /** Throws when Windows has no event log for us. */
  constructor(source: string) {
    this.#log = serviceCalls().registerEventSource(null, source)
    if (this.#log === 0) throw new Error(`RegisterEventSource: ${lastError()}`)
  }

  /** Throws when Windows does not take it. */
  report(level: EventLevel, id: number, text: string): void {
    // A zero ends a string, and the string is what is there of the event.
    const line = text.replaceAll('\0', ' ').slice(0, longest)
    if (serviceCalls().reportEvent(this.#log, types[level], 0, id, null, 1, 0, [line], null) === 0)
      throw new Error(`ReportEvent: ${lastError()}`)
  }
}

function keyOf(source: string): string {
  return `SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\${source}`
}

/** Makes the source known, so that the Event Viewer shows our texts as they are. An administrator's right. */
export function registerSource(source: string): void {
  const set = (name: string, type: number, data: Buffer) => {
    const code = serviceCalls().setRegistryValue(HKEY_LOCAL_MACHINE, keyOf(source), name, type, data, data.length)
    if (code !== 0) throw new Error(`RegSetKeyValue ${name}: error ${code}`)
  }
  set('EventMessageFile', REG_EXPAND_SZ, Buffer.from('%SystemRoot%\\System32\\EventCreate.exe\0', 'utf16le'))
  set('TypesSupported', REG_DWORD, Buffer.from(Uint32Array.of(7).buffer))
}

/** Its events stay. A source that is not there is no error. */
export function forgetSource(source: string): void {
  const ERROR_FILE_NOT_FOUND = 2
  const code = serviceCalls().removeRegistryTree(HKEY_LOCAL_MACHINE, keyOf(source))
  if (code !== 0 && code !== ERROR_FILE_NOT_FOUND) throw new Error(`RegDeleteTree: error ${code}`)
}
