/**
 * Stands in for `uvu` in a guarded test process: the same functions, but every registration, start, pass, failure and hook error
 * is recorded, because uvu 0.5.6 itself loses them: a hook that throws, `throw null`, a suite that is never run, a test
 * registered after `.run()`, the names of skipped tests.
 */

import fs from 'node:fs'
import { inspect } from 'node:util'
import * as uvu from 'uvu'
import { type Entry, reportVariable } from './report.ts'

type Context = Record<string, unknown>
type Handler = uvu.Callback<Context>
type Run = () => Promise<[unknown, number, number, number]>

const file = process.env[reportVariable] ?? ''
delete process.env[reportVariable]
const fd = fs.openSync(file, 'a')

function record(entry: Entry): void {
  fs.writeSync(fd, `${JSON.stringify(entry)}\n`)
}

/** How long a test process may live on after its tests, ms; then its open handles are recorded (and the guard ends it). */
const lingerBeforeReport = 2_500

/** An error that uvu can print: it dies on `throw null`, and on a diff of values with a bigint. */
function printable(thrown: unknown): Error {
  if (thrown instanceof Error && typeof thrown.name === 'string' && !holdsBigInt(thrown)) return thrown
  const text = thrown instanceof Error ? (thrown.stack ?? String(thrown)) : `a test threw ${inspect(thrown)}, which is not an Error`
  const error = new Error(text)
  if (thrown instanceof Error) error.stack = text
  return error
}

function holdsBigInt(error: Error): boolean {
  const { actual, expected } = error as { actual?: unknown; expected?: unknown }
  if (actual === undefined && expected === undefined) return false
  try {
    JSON.stringify([actual, expected])
    return false
  } catch {
    return true
  }
}

/** For the guard's list of reasons. uvu prints the difference of values, except where it cannot. */
function describe(thrown: unknown): string {
  if (!(thrown instanceof Error) || holdsBigInt(thrown) || thrown.cause !== undefined) return inspect(thrown, { depth: 6 })
  return thrown.stack ?? String(thrown)
}

let suites = 0
let running = 0
let failures = 0

/** Runs a handler or a hook; records and passes on what it throws. */
function watched<T extends (...args: never[]) => unknown>(suite: number, where: string, handler: T): T {
  return (async (...args: never[]) => {
    try {
      return await handler(...args)
    } catch (thrown) {
      failures++
      record({ event: 'failed', suite, where, error: describe(thrown) })
      throw printable(thrown)
    }
  }) as unknown as T
}

function recorded<T extends uvu.Test<Context>>(real: T): T {
  const suite = ++suites
  function handlerOf(name: string, handler: Handler) {
    const run = watched(suite, `test "${name}"`, handler)
    return async (context: Parameters<Handler>[0]) => {
      record({ event: 'started', suite, name })
      await run(context)
      record({ event: 'passed', suite, name })
    }
  }
  const test = ((name: string, handler: Handler) => {
    record({ event: 'registered', suite, name })
    real(name, handlerOf(name, handler) as never)
  }) as unknown as T
  test.only = (name: string, handler: unknown) => {
    record({ event: 'only', suite, name })
    real.only(name, handlerOf(name, handler as Handler) as never)
  }
  test.skip = (name?: string) => {
    record({ event: 'skip', suite, name: name ?? '' })
    real.skip()
  }
  for (const when of ['before', 'after'] as const) {
    const once = ((hook: never) => real[when](watched(suite, `hook ${when}()`, hook))) as T['before']
    once.each = (hook: never) => real[when].each(watched(suite, `hook ${when}.each()`, hook))
    test[when] = once
  }
  test.run = () => {
    record({ event: 'run', suite })
    real.run()
    const queue = (globalThis as unknown as { UVU_QUEUE: Run[][] }).UVU_QUEUE[0] as Run[]
    const run = queue.pop() as Run
    running++
    queue.push(async () => {
      const result = await run()
      record({ event: 'ran', suite, passed: result[1], skipped: result[2], total: result[3] })
      if (--running === 0) reportOpenHandles()
      return result
    })
  }
  return test
}

/** A process that has failed may end at once (its servers die with it); one that has passed must end by itself. */
function reportOpenHandles(): void {
  setTimeout(() => {
    if (failures > 0) process.exit(1)
    record({ event: 'open', resources: process.getActiveResourcesInfo() })
  }, lingerBeforeReport).unref()
}

export const exec = uvu.exec
export const test = recorded(uvu.test as uvu.Test<Context>)
export function suite(name?: string, context?: Context): uvu.Test<Context> {
  return recorded(uvu.suite(name, context) as uvu.Test<Context>)
}
