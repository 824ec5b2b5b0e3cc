/**
 * Starts a program outside of the job object that this process is in. Whoever has started the agent (a session of SSH, a container, a service
 * wrapper) may have put it into one that ends all of its processes at once; Node's own spawn would leave the engine in it.
 */

import { kernel, lastError } from './kernel.ts'

const CREATE_NEW_PROCESS_GROUP = 0x200
const CREATE_UNICODE_ENVIRONMENT = 0x400
const DETACHED_PROCESS = 8
const CREATE_BREAKAWAY_FROM_JOB = 0x01000000
const DUPLICATE_SAME_ACCESS = 2
const STARTF_USESTDHANDLES = 0x100
const STILL_ACTIVE = 259
const pollMs = 20

export interface Program {
  command: string
  args: readonly string[]
  cwd: string
  env: NodeJS.ProcessEnv
  /** Descriptor for stdout and stderr. */
  output: number | undefined
}

/** Whether a job object holds this process. */
export function isInJob(): boolean {
  const result = Buffer.alloc(4)
  return kernel().inJob(kernel().currentProcess(), 0, result) !== 0 && result.readInt32LE() !== 0
}

/** Its pid, and its exit code once it has ended. Throws what the system says; a job that lets nobody go says "error 5". */
export function spawnOutsideJob(program: Program): { pid: number; ended: Promise<number> } {
  const calls = kernel()
  const output = program.output === undefined ? undefined : inheritable(program.output)
  // STARTUPINFOW: its own size, the flags at 60, the three handles at 80, 88 and 96. PROCESS_INFORMATION: two handles, then the pid.
  const startup = Buffer.alloc(104)
  startup.writeUInt32LE(startup.length, 0)
  startup.writeUInt32LE(STARTF_USESTDHANDLES, 60)
  for (const at of [88, 96]) startup.writeBigInt64LE(BigInt(output ?? 0), at)
  const information = Buffer.alloc(24)
  const flags = DETACHED_PROCESS + CREATE_NEW_PROCESS_GROUP + CREATE_UNICODE_ENVIRONMENT + CREATE_BREAKAWAY_FROM_JOB
  const { command, args, cwd, env } = program
  const line = [command, ...args].map(quoted).join(' ')
  const isStarted = calls.createProcess(command, line, null, null, 1, flags, environmentBlock(env), cwd, startup, information) !== 0
  const why = isStarted ? '' : lastError()
  if (output !== undefined) calls.closeHandle(output)
  if (!isStarted) throw new Error(why)
  calls.closeHandle(Number(information.readBigInt64LE(8)))
  return { pid: information.readUInt32LE(16), ended: endOf(Number(information.readBigInt64LE())) }
}

async function endOf(process: number): Promise<number> {
  const code = Buffer.alloc(4)
  for (;;) {
    kernel().exitCode(process, code)
    if (code.readUInt32LE() !== STILL_ACTIVE) break
    await new Promise((resolve) => setTimeout(resolve, pollMs).unref())
  }
  kernel().closeHandle(process)
  return code.readUInt32LE()
}

function inheritable(fd: number): number {
  const calls = kernel()
  const copy = Buffer.alloc(8)
  const self = calls.currentProcess()
  if (calls.duplicateHandle(self, calls.handleOf(fd), self, copy, 0, 1, DUPLICATE_SAME_ACCESS) === 0) throw new Error(lastError())
  return Number(copy.readBigInt64LE())
}

/** As CommandLineToArgvW takes it apart: backslashes count only before a quote. */
function quoted(word: string): string {
  if (word !== '' && !/[\s"]/.test(word)) return word
  return `"${word.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, '$1$1')}"`
}

/** `NAME=value`, each with a zero at its end, sorted, and one more zero. */
function environmentBlock(env: NodeJS.ProcessEnv): Buffer {
  const lines = Object.entries(env)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}\0`)
    .sort((a, b) => (a.toUpperCase() < b.toUpperCase() ? -1 : 1))
  return Buffer.from(`${lines.join('')}\0`, 'utf16le')
}
