/** What the kernel tells of a process's io_uring (proc_pid_fdinfo(5)). */

import fs from 'node:fs'
import { mostSends } from '../../agent/engine/pgwire/send-ring.ts'

/** How many sends the engine's own ring has carried out; undefined: the process has none. (Node has rings as well, of other sizes.) */
export function carriedOut(pid: number): number | undefined {
  for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) {
    if (linkOf(`/proc/${pid}/fd/${fd}`) !== 'anon_inode:[io_uring]') continue
    const facts = fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8')
    const fact = (name: string) => Number(new RegExp(`^${name}:\\s*(\\w+)$`, 'm').exec(facts)?.[1])
    if (fact('SqMask') === mostSends - 1) return fact('CqTail')
  }
  return undefined
}

function linkOf(file: string): string | undefined {
  try {
    return fs.readlinkSync(file)
  } catch {
    return undefined // closed meanwhile
  }
}
