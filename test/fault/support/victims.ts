/** Processes of a guarded host (the agent, a command, a fixture) that are killed at a step, one after the other. */

import fs from 'node:fs'
import path from 'node:path'
import * as assert from 'uvu/assert'
import type { Child } from '../../support/process.ts'
import type { Random } from '../../support/random.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { waitFor } from '../../support/wait.ts'
import { faultEnvironment, traced } from './faults.ts'

const patience = 60_000

export class Victims {
  /** The labels at which they were killed, in order. */
  readonly story: string[] = []
  #random: Random
  #trace = path.join(temporaryDirectory('v'), 'trace')

  constructor(random: Random) {
    this.#random = random
  }

  /** The environment of a process of that role (`run`, `adopt`, a fixture's name) that is to be killed at one of the label's `hits` first hits. */
  killedAt(label: string, hits: number, role: string): Record<string, string> {
    fs.rmSync(this.#trace, { force: true })
    const fault = { label, hit: this.#random.int(1, hits), action: 'kill', partial: this.#random.chance(0.5) } as const
    this.story.push(`${label} ${fault.hit}`)
    return faultEnvironment({ role, trace: this.#trace, faults: [fault] })
  }

  /** Waits until the process is dead by the plan. */
  async dies(child: Child): Promise<void> {
    const last = this.story.at(-1)
    await waitFor(`it is killed at ${last}`, () => child.exit !== null, { deadline: patience, every: 20 }).catch((error: Error) => {
      throw new Error(`${error.message}\n${child.output().slice(-4000)}`, { cause: error })
    })
    assert.is((await child.exited).signal, 'SIGKILL', `it ended by itself instead of at ${last}:\n${child.output().slice(-4000)}`)
    assert.equal(traced(this.#trace), [last?.split(' ')[0]])
  }

  has(label: string): boolean {
    return this.story.some((entry) => entry.startsWith(`${label} `))
  }
}

/** Temporary files below a directory: what a killed process left behind. */
export function leftovers(directory: string): string[] {
  return fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.tmp'))
}

/** Every regular file below a directory, absolute. */
export function filesBelow(directory: string): string[] {
  if (!fs.existsSync(directory)) return []
  const entries = fs.readdirSync(directory, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name))
}
