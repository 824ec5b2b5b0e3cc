/** Quiet hours by the wall clock of their zone. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { inQuietHours, type QuietHours } from '../../agent/config.ts'
import { lines, parse, problemsOf } from './support.ts'

const test = suite('quiet hours')

const quiet = (...entries: string[]): QuietHours[] => parse(`agent: { quiet_hours: ${JSON.stringify(entries)} }`).agent.quiet_hours
const within = (entry: string, ...moments: string[]) => moments.map((moment) => inQuietHours(quiet(entry), new Date(moment)))

test('an entry is days, hours and a zone', () => {
  assert.equal(quiet('Mon-Fri 09:30-16:00 America/New_York'), [
    { days: new Set([1, 2, 3, 4, 5]), startMinute: 570, endMinute: 960, timeZone: 'America/New_York' },
  ])
  assert.equal(quiet('sat 0:00-24:00 UTC')[0]!.days, new Set([6]))
  assert.equal(quiet('Mon,Wed-Thu 1:00-2:00 UTC')[0]!.days, new Set([1, 3, 4]))
  assert.equal(quiet('Fri-Mon 1:00-2:00 UTC')[0]!.days, new Set([5, 6, 0, 1]))
})

test('a mistake in an entry is told by its part', () => {
  const told = (entry: string) => lines(problemsOf(`agent:\n  quiet_hours:\n    - ${JSON.stringify(entry)}\n`))[0]
  assert.is(told('Mun-Fri 09:30-16:00 UTC'), '3:7 agent.quiet_hours[0]: the days are not valid')
  assert.is(told('Mon 09:30-24:01 UTC'), '3:7 agent.quiet_hours[0]: the hours are not valid')
  assert.is(told('Mon 9:60-10:00 UTC'), '3:7 agent.quiet_hours[0]: the hours are not valid')
  assert.is(told('Mon 24:00-10:00 UTC'), '3:7 agent.quiet_hours[0]: the hours are not valid')
  assert.is(told('Mon 09:30-09:30 UTC'), '3:7 agent.quiet_hours[0]: the hours begin and end at the same minute')
  assert.is(told('Mon 09:30-16:00 Mars/Olympus'), '3:7 agent.quiet_hours[0]: the time zone is not known')
  assert.is(told('Mon 09:30-16:00'), '3:7 agent.quiet_hours[0]: not quiet hours: expected days, hours and a time zone')
})

test('the first minute is quiet, the last is not, and other days are not', () => {
  // 2024-01-03 is a Wednesday; New York is at UTC-5.
  const moments = ['2024-01-03T14:29:59Z', '2024-01-03T14:30:00Z', '2024-01-03T20:59:59Z', '2024-01-03T21:00:00Z', '2024-01-06T15:00:00Z']
  assert.equal(within('Mon-Fri 09:30-16:00 America/New_York', ...moments), [false, true, true, false, false])
})

test('the change to daylight saving time moves the hours with the wall clock', () => {
  // New York changed on Sunday, 2024-03-10: 09:30 is 14:30 UTC on the Friday before, 13:30 UTC on the Monday after.
  const moments = ['2024-03-08T13:45:00Z', '2024-03-08T14:30:00Z', '2024-03-11T13:29:00Z', '2024-03-11T13:30:00Z', '2024-03-11T20:00:00Z']
  assert.equal(within('Mon-Fri 09:30-16:00 America/New_York', ...moments), [false, true, false, true, false])
  // On the night itself 02:00-03:00 does not exist: 06:59 UTC is 01:59, 07:00 UTC is 03:00.
  assert.equal(within('Sun 01:30-02:30 America/New_York', '2024-03-10T06:59:00Z', '2024-03-10T07:00:00Z'), [true, false])
  // On 2024-11-03 01:30 comes twice: both are quiet.
  assert.equal(within('Sun 01:00-02:00 America/New_York', '2024-11-03T05:30:00Z', '2024-11-03T06:30:00Z', '2024-11-03T07:00:00Z'), [
    true,
    true,
    false,
  ])
})

test('hours that pass midnight belong to the day on which they begin', () => {
  // Friday 2024-01-05 22:00 to Saturday 06:00.
  const moments = [
    '2024-01-05T05:00:00Z',
    '2024-01-05T21:59:00Z',
    '2024-01-05T22:00:00Z',
    '2024-01-06T05:59:00Z',
    '2024-01-06T06:00:00Z',
    '2024-01-06T23:00:00Z',
  ]
  assert.equal(within('Fri 22:00-06:00 UTC', ...moments), [false, false, true, true, false, false])
  assert.equal(within('Sat 20:00-24:00 UTC', '2024-01-06T23:59:00Z', '2024-01-07T00:00:00Z'), [true, false])
  // Saturday night into Sunday, over the end of the week.
  assert.equal(within('Sat 22:00-06:00 UTC', '2024-01-07T05:00:00Z', '2024-01-08T05:00:00Z'), [true, false])
})

test('any entry of several is enough, and none is never', () => {
  const list = quiet('Mon 01:00-02:00 UTC', 'Tue 01:00-02:00 UTC')
  assert.is(inQuietHours(list, new Date('2024-01-02T01:30:00Z')), true)
  assert.is(inQuietHours([], new Date()), false)
})

test.run()
