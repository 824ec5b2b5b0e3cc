/** What a row found, and how it is told: a table for people, JSON for machines. Whether a goal is reached is printed, never asserted. */

import type { Machine } from './machine.ts'
import { type Summary, summarize } from './statistics.ts'

export interface Goal {
  readonly least?: number
  readonly most?: number
}

/** One series of values, one per round. */
export interface Measure {
  readonly what: string
  readonly unit: string
  readonly values: readonly number[]
  readonly goal?: Goal
}

export interface RowReport {
  readonly measures: readonly Measure[]
  /** Sizes and settings that the numbers depend on. */
  readonly settings: string
  readonly notes?: readonly string[]
}

export interface RowResult {
  readonly row: number
  readonly title: string
  readonly report?: RowReport
  /** Why it could not be measured. */
  readonly error?: string
  /** Runnable threads, mean of a minute, before and after. */
  readonly load: readonly [number, number]
}

/** Values of one side divided by those of another, round by round. */
export function ratio(over: string, one: readonly number[], other: readonly number[], goal?: Goal): Measure {
  return { what: `÷ ${over}`, unit: '×', values: one.map((value, i) => value / (other[i] as number)), goal }
}

export function reached({ goal }: Measure, { median }: Summary): boolean | undefined {
  if (goal === undefined) return undefined
  return median >= (goal.least ?? Number.NEGATIVE_INFINITY) && median <= (goal.most ?? Number.POSITIVE_INFINITY)
}

function goalText(goal: Goal, unit: string): string {
  const bounds = [goal.least === undefined ? [] : `≥ ${format(goal.least)}`, goal.most === undefined ? [] : `≤ ${format(goal.most)}`]
  return `${bounds.flat().join(', ')} ${unit}`
}

/** Three significant digits, thousands apart. */
export function format(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(3)))
}

const verdicts = { true: 'reached', false: 'MISSED', undefined: '' } as const

const widths = [34, 12, 12, 12, 6, 18] as const

function line(cells: readonly string[]): string {
  return cells
    .map((cell, i) => (i === 0 ? cell.padEnd(widths[0]) : i >= 4 ? ` ${cell}`.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
    .join('')
    .trimEnd()
}

export function head(machine: Machine, settings: readonly string[]): string {
  const { cpu, cores, memoryGiB, kernel, directory, fileSystem, versions } = machine
  return [
    `${cpu}, ${cores} cores, ${memoryGiB} GiB, ${kernel}`,
    `${directory}: ${fileSystem.type} on ${fileSystem.device}`,
    Object.entries(versions)
      .map(([name, version]) => (version.includes(name) ? version : `${name} ${version}`))
      .join(', '),
    ...settings,
  ].join('\n')
}

/** `judged` false: the goals are shown without a verdict. */
export function table({ row, title, report, error, load }: RowResult, judged: boolean): string {
  const lines = [`\n${row}. ${title}`]
  if (error !== undefined) lines.push(`   NOT MEASURED: ${error}`)
  if (report !== undefined) {
    lines.push(`   ${report.settings}; load ${load[0]} → ${load[1]}`, line(['', 'min', 'median', 'max', '', 'goal']))
    for (const measure of report.measures) {
      const summary = summarize(measure.values)
      const goal = measure.goal === undefined ? '' : goalText(measure.goal, measure.unit)
      const verdict = judged ? verdicts[String(reached(measure, summary)) as keyof typeof verdicts] : ''
      lines.push(
        line([`   ${measure.what}`, format(summary.min), format(summary.median), format(summary.max), measure.unit, goal, verdict]),
      )
    }
    for (const note of report.notes ?? []) lines.push(`   ${note}`)
  }
  return lines.join('\n')
}

/** The same with every value. */
export function json(results: readonly RowResult[]): unknown[] {
  return results.map(({ report, ...row }) => ({
    ...row,
    settings: report?.settings,
    notes: report?.notes,
    measures: report?.measures.map((measure) => {
      const summary = summarize(measure.values)
      return { ...measure, ...summary, reached: reached(measure, summary) }
    }),
  }))
}
