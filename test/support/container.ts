/**
 * A machine with systemd: a Debian in a container, booted by systemd-nspawn from a copy of a tree that debootstrap made once
 * (test/support/prerequisites.ts). Its processes are this machine's, its network is a loopback of its own.
 */

import fs from 'node:fs'
import path from 'node:path'
import { onExit } from './cleanup.ts'
import { debianTree } from './prerequisites.ts'
import { type Child, isAlive, runChild, spawnChild } from './process.ts'
import { temporaryDirectory } from './temp.ts'
import { waitFor } from './wait.ts'

export interface Ran {
  code: number | null
  stdout: string
  stderr: string
}

const patience = 120_000

export class Container {
  /** Its root directory, as this machine sees it. */
  readonly root: string
  #console!: Child
  /** The container's process 1, as this machine numbers it. */
  #init = 0

  private constructor(root: string) {
    this.root = root
  }

  static async boot(): Promise<Container> {
    const container = new Container(path.join(temporaryDirectory('c'), 'r'))
    const { code, stderr } = await runChild('cp', ['-a', '--reflink=auto', debianTree, container.root])
    if (code !== 0) throw new Error(`the Debian tree cannot be copied: ${stderr}`)
    onExit(() => container.#kill())
    await container.#boot()
    return container
  }

  /** Runs a program in it, to its end, with an environment of its own. */
  run(program: string, ...args: string[]): Promise<Ran> {
    return this.#enter([program, ...args], patience)
  }

  /** Runs a program that must succeed; resolves with what it printed. */
  async must(program: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(program, ...args)
    if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`)
    return stdout
  }

  /** A path of its own file system, mounts included, for this machine's programs; of its process, so that it changes with a reboot. */
  path(inside: string): string {
    return path.join(`/proc/${this.#init}/root`, inside)
  }

  /** Shuts it down in order and boots the same root again. (systemd-nspawn's own reboot fails on machines with cgroups of version 1.) */
  async reboot(): Promise<void> {
    await this.run('systemctl', 'poweroff')
    await this.#console.exited
    await this.#boot()
  }

  /** Ends it at once, and removes its files: there are many, so that it takes longer than a process gets for its own end. */
  async stop(): Promise<void> {
    this.#kill()
    await this.#console.exited
    fs.rmSync(this.root, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  }

  async #boot(): Promise<void> {
    const machine = path.basename(path.dirname(this.root))
    const console = spawnChild('systemd-nspawn', [
      ...['-D', this.root, `--machine=${machine}`, '--register=no', '--keep-unit', '--private-network', '--console=pipe', '-b'],
    ])
    this.#console = console
    this.#init = 0
    await waitFor(
      'the container has booted',
      async () => {
        if (console.exit !== null) return true
        this.#init = Number(fs.readFileSync(`/proc/${console.pid}/task/${console.pid}/children`, 'utf8').trim().split(' ')[0])
        return this.#init > 0 && /running|degraded/.test((await this.#enter(['systemctl', 'is-system-running'], 10_000)).stdout)
      },
      { deadline: patience, every: 100 },
    )
    if (console.exit !== null) throw new Error(`the container does not boot:\n${console.output()}`)
  }

  #enter(command: string[], deadline: number): Promise<Ran> {
    const environment = ['env', '-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root']
    return runChild('nsenter', ['-t', String(this.#init), '-m', '-u', '-i', '-n', '-p', '--', ...environment, ...command], { deadline })
  }

  /** The kernel ends all of a container's processes with its first one. */
  #kill(): void {
    if ((this.#console as Child | undefined)?.exit !== null) return
    for (const pid of [this.#init, this.#console.pid]) if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGKILL')
  }
}
