/** A memory cgroup of a test's own (v1; kernel: Documentation/admin-guide/cgroup-v1/memory.rst), in which the kernel kills who takes too much. */

import fs from 'node:fs'
import path from 'node:path'
import { onExit } from '../../support/cleanup.ts'
import { waitFor } from '../../support/wait.ts'

export class MemoryGroup {
  #directory: string

  private constructor(directory: string) {
    this.#directory = directory
  }

  /** Undefined on a machine without this controller, or where we may not use it. */
  static make(): MemoryGroup | undefined {
    try {
      const own = /^\d+:memory:(\/.*)$/m.exec(fs.readFileSync('/proc/self/cgroup', 'utf8'))?.[1]
      // Fields: id, parent, device, root, mount point, options …, then " - ", the type and its options (proc(5)).
      const mount = /^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup \S+ \S*\bmemory\b/m.exec(fs.readFileSync('/proc/self/mountinfo', 'utf8'))
      if (own === undefined || mount === null) return undefined
      const directory = path.join(mount[2] as string, path.relative(mount[1] as string, own), `daemonguard-test-${process.pid}`)
      fs.mkdirSync(directory)
      onExit(() => fs.existsSync(directory) && fs.rmdirSync(directory))
      return new MemoryGroup(directory)
    } catch {
      return undefined
    }
  }

  /** The process may take so many bytes more than it has now: what it has stays with the group that it was in. */
  take(pid: number, bytes: number): void {
    fs.writeFileSync(path.join(this.#directory, 'memory.limit_in_bytes'), String(bytes))
    fs.writeFileSync(path.join(this.#directory, 'cgroup.procs'), String(pid))
  }

  /** How many the kernel has killed. */
  get kills(): number {
    return Number(/^oom_kill (\d+)$/m.exec(fs.readFileSync(path.join(this.#directory, 'memory.oom_control'), 'utf8'))?.[1])
  }

  /** Once nobody is left in it. */
  async remove(): Promise<void> {
    await waitFor('the memory cgroup is empty', () => {
      fs.rmdirSync(this.#directory)
      return true
    })
  }
}
