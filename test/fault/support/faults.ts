/** What a test can do to a process of the program at a labelled step (agent/step.ts), and the labels that there are. */

import fs from 'node:fs'
import path from 'node:path'
import type { StepKind } from '../../../agent/step.ts'
import type { RecordPlan } from './recorder.ts'

export const systemErrors = {
  EIO: { errno: -5, text: 'i/o error' },
  ENOSPC: { errno: -28, text: 'no space left on device' },
  EROFS: { errno: -30, text: 'read-only file system' },
} as const

export interface Fault {
  /** Default: any. */
  label?: string
  /** Default: all. */
  kinds?: readonly StepKind[]
  /** The how manieth matching step is struck, from 1 on. */
  hit?: number
  /** Strikes, and counts, only while this file exists. */
  when?: string
  /** Strikes at every matching step from `hit` on. */
  every?: boolean
  action: 'kill' | keyof typeof systemErrors
  /** Half of a write is done first. */
  partial?: boolean
}

export interface FaultPlan {
  /** Only in this process: `engine`, `run`, `adopt` …, or a fixture's name. */
  role?: string
  faults?: readonly Fault[]
  /** File that gets a line `fired <label> <kind>` for every fault that strikes. */
  trace?: string
  record?: RecordPlan
}

/** The environment that gives a process, and those that it starts, this plan. */
export function faultEnvironment(plan: FaultPlan): Record<string, string> {
  return {
    NODE_OPTIONS: `--import=${path.join(import.meta.dirname, 'injector.ts')}`,
    DAEMONGUARD_FAULT: JSON.stringify(plan),
  }
}

/** The labels of the lines `fired <label> <kind>` of a trace. */
export function traced(trace: string): string[] {
  if (!fs.existsSync(trace)) return []
  return fs
    .readFileSync(trace, 'utf8')
    .split('\n')
    .flatMap((line) => (line.startsWith('fired ') ? [line.split(' ')[1] as string] : []))
}

const root = path.resolve(import.meta.dirname, '../../..')

/** Every label that stands in the program's code, sorted. */
export function labelsInCode(): string[] {
  const found = new Set<string>()
  for (const directory of ['agent', 'plugins'])
    for (const name of fs.readdirSync(path.join(root, directory), { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts')) continue
      for (const [, label] of fs.readFileSync(path.join(root, directory, name), 'utf8').matchAll(/'([A-Z]+:[A-Z-]+)'/g))
        found.add(label as string)
    }
  return [...found].sort()
}
