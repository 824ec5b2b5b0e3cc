/** `agent.quiet_hours`: when no scan, snapshot or drill may run. "Mon-Fri 09:30-16:00 America/New_York". */

import { Mistake, written } from '../values.ts'

export interface QuietHours {
  /** 0 Sunday … 6 Saturday: the days on which it begins. */
  days: Set<number>
  /** Minutes since midnight, on the wall clock of `timeZone`. */
  startMinute: number
  /** Minutes since midnight, exclusive, up to 1440; below `startMinute` it ends on the next day. */
  endMinute: number
  timeZone: string
}

const dayNames = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
const hint = 'write "Mon-Fri 09:30-16:00 America/New_York": days, hours, time zone (or UTC)'

/** Schema of one entry. */
export const quietHours = () => written<QuietHours>('days, hours and a time zone', hint, parseQuietHours)

function parseQuietHours(text: string): QuietHours | Mistake {
  const [dayText, hourText, timeZone, ...rest] = text.trim().split(/\s+/)
  if (dayText === undefined || hourText === undefined || timeZone === undefined || rest.length > 0) {
    return new Mistake('not quiet hours: expected days, hours and a time zone', hint)
  }
  const days = parseDays(dayText)
  if (days === undefined) return new Mistake('the days are not valid', 'write Mon-Fri, Sat or Mon,Wed,Fri')
  const hours = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/.exec(hourText)
  const [startMinute, endMinute] = hours === null ? [-1, -1] : [minuteOf(hours[1]!, hours[2]!), minuteOf(hours[3]!, hours[4]!)]
  if (startMinute < 0 || endMinute < 0 || startMinute === 1440)
    return new Mistake('the hours are not valid', 'write 09:30-16:00, with hours from 00:00 to 24:00')
  if (startMinute === endMinute) return new Mistake('the hours begin and end at the same minute', 'write 00:00-24:00 for the whole day')
  try {
    clockOf(timeZone)
  } catch {
    return new Mistake('the time zone is not known', 'write a name of the IANA database, such as America/New_York, Europe/London or UTC')
  }
  return { days, startMinute, endMinute, timeZone }
}

function parseDays(text: string): Set<number> | undefined {
  const days = new Set<number>()
  for (const part of text.toLowerCase().split(',')) {
    const ends = part.split('-').map((name) => dayNames.indexOf(name))
    if (ends.length > 2 || ends.includes(-1)) return undefined
    const last = ends[1] ?? ends[0]!
    // Fri-Mon goes on over the end of the week.
    for (let day = ends[0]!; ; day = (day + 1) % 7) {
      days.add(day)
      if (day === last) break
    }
  }
  return days
}

/** -1 when it is no time of day. */
function minuteOf(hour: string, minute: string): number {
  const total = Number(hour) * 60 + Number(minute)
  return Number(minute) > 59 || total > 1440 ? -1 : total
}

const clocks = new Map<string, Intl.DateTimeFormat>()

/** A formatter of weekday and time in the zone. Throws RangeError on an unknown zone. */
function clockOf(timeZone: string): Intl.DateTimeFormat {
  const known = clocks.get(timeZone)
  if (known !== undefined) return known
  const clock = new Intl.DateTimeFormat('en-US', { timeZone, weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
  clocks.set(timeZone, clock)
  return clock
}

/** Whether any entry covers the moment, by the wall clock of its zone (daylight saving included). */
export function inQuietHours(list: readonly QuietHours[], date: Date): boolean {
  return list.some(({ days, startMinute, endMinute, timeZone }) => {
    const parts = Object.fromEntries(
      clockOf(timeZone)
        .formatToParts(date)
        .map((part) => [part.type, part.value]),
    )
    const today = dayNames.indexOf(parts.weekday!.toLowerCase())
    const minute = Number(parts.hour) * 60 + Number(parts.minute)
    if (startMinute < endMinute) return days.has(today) && minute >= startMinute && minute < endMinute
    const yesterday = (today + 6) % 7
    return (days.has(today) && minute >= startMinute) || (days.has(yesterday) && minute < endMinute)
  })
}
