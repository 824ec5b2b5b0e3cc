/**
 * Real child processes for tests: captured output, an exit that can be awaited, and no child that outlives its test process.
 * Three nets hold them: the exit handler here, Linux' parent-death signal (for a test process that is SIGKILLed), and the
 * runner, which ends everything that a test file has started.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import { onExit } from './cleanup.ts'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface Child {
  readonly pid: number
  readonly process: ChildProcess
  /** Null while it runs. */
  readonly exit: Exit | null
  /** Resolves at its end, with stdout and stderr read to their ends. */
  readonly exited: Promise<Exit>
  stdout(): string
  stderr(): string
  /** stdout and stderr in the order of their arrival. */
  output(): string
  /** Sends `signal` (default SIGKILL) and waits for the end. Safe on a process that has ended. */
  kill(signal?: NodeJS.Signals): Promise<Exit>
}

export interface ChildOptions {
  cwd?: string
  /** Added to this process's environment; undefined removes a variable. */
  env?: Record<string, string | undefined>
  /** Written to stdin, which then ends; without it stdin is empty. 'pipe' leaves it open for the test. */
  input?: string | 'pipe'
  /** A process group of its own: `kill` then reaches its children too. */
  group?: boolean
}

const setpriv = process.platform === 'linux' ? ['/usr/bin/setpriv', '/bin/setpriv'].find((file) => fs.existsSync(file)) : undefined

/** Starts a program. It dies with this test process. Throws when the program cannot be started (ENOENT …) only through `exited`. */
export function spawnChild(command: string, args: readonly string[] = [], options: ChildOptions = {}): Child {
  const [file, ...rest] = setpriv ? [setpriv, '--pdeathsig', 'KILL', '--', command, ...args] : [command, ...args]
  const child = spawn(file as string, rest, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    detached: options.group ?? false,
  })
  if (options.input !== undefined && options.input !== 'pipe') {
    child.stdin?.on('error', () => {}) // it may end without reading
    child.stdin?.end(options.input)
  }
  const texts: { from: 'stdout' | 'stderr'; text: string }[] = []
  for (const from of ['stdout', 'stderr'] as const) {
    child[from]?.setEncoding('utf8').on('data', (text: string) => texts.push({ from, text }))
  }
  const pid = child.pid ?? 0
  function signalAll(signal: NodeJS.Signals): void {
    if (pid === 0) return
    try {
      process.kill(options.group ? -pid : pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  let exit: Exit | null = null
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      exit = { code, signal }
    })
    child.once('close', (code, signal) => resolve({ code, signal }))
  })
  exited.catch(() => {}) // whoever awaits it sees the error
  onExit(() => {
    if (exit === null || options.group) signalAll('SIGKILL')
  })
  const text = (from?: 'stdout' | 'stderr') =>
    texts
      .filter((part) => from === undefined || part.from === from)
      .map((part) => part.text)
      .join('')
  return {
    pid,
    process: child,
    get exit() {
      return exit
    },
    exited,
    stdout: () => text('stdout'),
    stderr: () => text('stderr'),
    output: () => text(),
    async kill(signal = 'SIGKILL') {
      if (exit === null) signalAll(signal)
      return exited
    },
  }
}

/** Runs a program to its end; resolves with what it printed, whatever its exit. Killed after `deadline` ms (default 60 s), which throws. */
export async function runChild(
  command: string,
  args: readonly string[] = [],
  options: ChildOptions & { deadline?: number } = {},
): Promise<Exit & { stdout: string; stderr: string }> {
  const deadline = options.deadline ?? 60_000
  const child = spawnChild(command, args, options)
  let late = false
  const timer = setTimeout(() => {
    late = true
    void child.kill()
  }, deadline)
  try {
    const exit = await child.exited
    if (late) throw new Error(`${command} ${args.join(' ')} did not end within ${deadline} ms; it printed:\n${child.output()}`)
    return { ...exit, stdout: child.stdout(), stderr: child.stderr() }
  } finally {
    clearTimeout(timer)
  }
}

/** True while a process with this id runs (a zombie does not). */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  if (process.platform !== 'linux') return true
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !['Z', 'X'].includes(stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3))
  } catch {
    return false
  }
}
