/** Processes and the boot, as Windows tells of them. */

import { type Handle, kernel } from './kernel.ts'

const PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
/** Between 1601, where FILETIME begins, and 1970; milliseconds. */
const filetimeEpoch = 11_644_473_600_000

/** When a process started, milliseconds since the Unix epoch, as the kernel noted it then; undefined where it can't be known. */
export function startOf(pid: number): number | undefined {
  return ask(pid, (process) => {
    const [created, ...rest] = [0, 0, 0, 0].map(() => Buffer.alloc(8)) as [Buffer, ...Buffer[]]
    if (kernel().processTimes(process, created, ...rest) === 0) return undefined
    return Number(created.readBigUInt64LE() / 10_000n) - filetimeEpoch
  })
}

/** Bytes a process has read and written so far. */
export function trafficOf(pid: number): number | undefined {
  return ask(pid, (process) => {
    // IO_COUNTERS: three counts of operations, then bytes read, written, other.
    const counters = Buffer.alloc(48)
    if (kernel().processTraffic(process, counters) === 0) return undefined
    return Number(counters.readBigUInt64LE(24) + counters.readBigUInt64LE(32))
  })
}

/**
 * Identifies this boot, in the form of a UUID: the time of the boot without what setting the clock has added to it since
 * (SYSTEM_TIMEOFDAY_INFORMATION: BootTime at 0, BootTimeBias at 32). Null where the system does not say.
 */
export function bootId(): string | null {
  const SystemTimeOfDayInformation = 3
  const facts = Buffer.alloc(48)
  if (kernel().systemInformation(SystemTimeOfDayInformation, facts, facts.length, null) !== 0) return null
  const boot = facts.readBigUInt64LE(0) - facts.readBigUInt64LE(32)
  const digits = BigInt.asUintN(64, boot).toString(16).padStart(16, '0')
  return `00000000-0000-0000-${digits.slice(0, 4)}-${digits.slice(4)}`
}

/** Ends this process at once: no destructor runs, nothing is flushed. */
export function endNow(code: number): void {
  kernel().terminateProcess(kernel().currentProcess(), code)
}

function ask<Result>(pid: number, question: (process: Handle) => Result | undefined): Result | undefined {
  const process = kernel().openProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid)
  if (process === 0) return undefined
  try {
    return question(process)
  } finally {
    kernel().closeHandle(process)
  }
}
