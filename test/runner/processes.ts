/**
 * Finds and ends what a test file started. Each file runs in a process group of its own and with a marker in its environment that
 * every descendant inherits, so that a detached child (another group, another session) is found as well (Linux: /proc).
 */

import fs from 'node:fs'
import { waitUntil } from '../support/wait.ts'

/** The environment variable that marks all descendants of one test file. */
export const markerVariable = 'DAEMONGUARD_TEST_FAMILY'

interface Running {
  pid: number
  command: string
}

/** Live members of the process group `group`, and live processes marked `marker`. Zombies are not alive. */
export function findFamily(group: number, marker: string): Running[] {
  if (process.platform !== 'linux') return groupIsAlive(group) ? [{ pid: -group, command: 'its process group' }] : []
  const found: Running[] = []
  for (const entry of fs.readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
      const [state, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (state === 'Z' || state === 'X') continue
      if (Number(processGroup) !== group && !isMarked(pid, marker)) continue
      found.push({ pid, command: fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 200) })
    } catch {
      // it ended while we looked, or is not ours to read
    }
  }
  return found
}

function isMarked(pid: number, marker: string): boolean {
  return `\0${fs.readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(`\0${markerVariable}=${marker}\0`)
}

function groupIsAlive(group: number): boolean {
  try {
    process.kill(-group, 0)
    return true
  } catch {
    return false
  }
}

/** SIGKILL to the whole family, again until nobody is left (a member may fork meanwhile). */
export async function endFamily(group: number, marker: string): Promise<void> {
  await waitUntil(
    () => {
      try {
        process.kill(-group, 'SIGKILL')
      } catch {
        // the group is empty
      }
      const family = findFamily(group, marker)
      for (const { pid } of family) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // it ended by itself
        }
      }
      return family.length === 0
    },
    { deadline: 10_000 },
  )
}
