/**
 * A job object around this process, which keeps it to its part of the processors and of the memory (Microsoft's "Job Objects"). The job lives as
 * long as the process, whoever has started it, and ends nothing: none of its limits is "kill on close".
 */

import { type Handle, kernel, lastError } from './kernel.ts'

const JobObjectExtendedLimitInformation = 9
const JobObjectCpuRateControlInformation = 15
const JOB_OBJECT_LIMIT_PROCESS_MEMORY = 0x100
const JOB_OBJECT_CPU_RATE_CONTROL_ENABLE = 1
const JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP = 4
/** JOBOBJECT_EXTENDED_LIMIT_INFORMATION on 64 bits: the flags at 16, ProcessMemoryLimit at 112. */
const extendedBytes = 144
const flagsAt = 16
const processMemoryAt = 112

/** Puts this process into a new job without limits. Throws where the system refuses. */
export function enterJob(): Handle {
  const job = kernel().createJob(null, null)
  if (job === 0) throw new Error(`no job object can be made: ${lastError()}`)
  if (kernel().assignToJob(job, kernel().currentProcess()) === 0)
    throw new Error(`the job object does not take the process: ${lastError()}`)
  return job
}

/** `part` of all processors' time, between 0 and 1. Throws where the system does not keep it. */
export function limitCpu(job: Handle, part: number): void {
  const limit = Buffer.alloc(8)
  limit.writeUInt32LE(JOB_OBJECT_CPU_RATE_CONTROL_ENABLE + JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP, 0)
  limit.writeUInt32LE(Math.max(1, Math.round(part * 10_000)), 4)
  if (kernel().setJob(job, JobObjectCpuRateControlInformation, limit, limit.length) === 0) throw new Error(lastError())
}

/** Bytes of memory that the process may have committed: written to or not, in use or paged out. Throws where the system does not keep it. */
export function limitMemory(job: Handle, bytes: number): void {
  const limit = Buffer.alloc(extendedBytes)
  limit.writeUInt32LE(JOB_OBJECT_LIMIT_PROCESS_MEMORY, flagsAt)
  limit.writeBigUInt64LE(BigInt(Math.round(bytes)), processMemoryAt)
  if (kernel().setJob(job, JobObjectExtendedLimitInformation, limit, limit.length) === 0) throw new Error(lastError())
  // Wine takes the limit and forgets it.
  const kept = Buffer.alloc(extendedBytes)
  kernel().queryJob(job, JobObjectExtendedLimitInformation, kept, kept.length, null)
  if (kept.readBigUInt64LE(processMemoryAt) !== limit.readBigUInt64LE(processMemoryAt)) throw new Error('the system does not keep it')
}

/** The processors that this process may use, by number, of the first 64. */
export function allowedCores(): number[] {
  const [own, all] = [Buffer.alloc(8), Buffer.alloc(8)]
  if (kernel().getAffinity(kernel().currentProcess(), own, all) === 0) throw new Error(lastError())
  const mask = own.readBigUInt64LE()
  return Array.from({ length: 64 }, (_, core) => core).filter((core) => (mask >> BigInt(core)) & 1n)
}

/** Keeps every thread of this process on these processors. */
export function pinTo(cores: readonly number[]): void {
  const mask = cores.reduce((sum, core) => sum | (1n << BigInt(core)), 0n)
  if (kernel().setAffinity(kernel().currentProcess(), mask) === 0) throw new Error(lastError())
}
