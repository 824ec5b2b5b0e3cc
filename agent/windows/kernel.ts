/**
 * The calls of Windows that Node has no words for, by their names in Microsoft's documentation. What is made of them lies in the files
 * beside this one; who uses them decides by `process.platform` where the thing itself is decided (agent/lock.ts, agent/supervisor/process.ts, …).
 * Libraries are loaded at the first call: a command that needs none of it does not unpack koffi.
 */

import koffi from 'koffi'

/** A HANDLE; 0 and -1 are none. */
export type Handle = number

export const GENERIC_READ = 0x80000000
export const GENERIC_WRITE = 0x40000000
/** Read, write and delete: others may do with the file what they like. */
export const FILE_SHARE_ALL = 7
export const OPEN_EXISTING = 3

let loaded: ReturnType<typeof load> | undefined

export function kernel() {
  loaded ??= load()
  return loaded
}

function load() {
  const library = koffi.load('kernel32.dll')
  const native = koffi.load('ntdll.dll')
  return {
    createFile: library.func(
      'intptr_t CreateFileW(str16 name, uint32_t access, uint32_t share, void *security, uint32_t disposition, uint32_t flags, intptr_t template)',
    ) as (name: string, access: number, share: number, security: null, disposition: number, flags: number, template: Handle) => Handle,
    flush: library.func('int FlushFileBuffers(intptr_t handle)') as (handle: Handle) => number,
    closeHandle: library.func('int CloseHandle(intptr_t handle)') as (handle: Handle) => number,
    lockFile: library.func(
      'int LockFileEx(intptr_t file, uint32_t flags, uint32_t zero, uint32_t low, uint32_t high, void *overlapped)',
    ) as (file: Handle, flags: number, zero: 0, low: number, high: number, overlapped: Buffer) => number,
    fileInformation: library.func('int GetFileInformationByHandle(intptr_t file, void *information)') as (
      file: Handle,
      information: Buffer,
    ) => number,
    duplicateHandle: library.func(
      'int DuplicateHandle(intptr_t from, intptr_t handle, intptr_t to, void *copy, uint32_t access, int inherit, uint32_t options)',
    ) as (from: Handle, handle: Handle, to: Handle, copy: Buffer, access: number, inherit: 0 | 1, options: number) => number,
    handleOf: koffi.load(null).func('intptr_t uv_get_osfhandle(int fd)') as (fd: number) => Handle,
    /** A descriptor of Node's out of a handle, which is closed with it (libuv, in Node's own executable). */
    openDescriptor: koffi.load(null).func('int uv_open_osfhandle(intptr_t handle)') as (handle: Handle) => number,
    lastError: library.func('uint32_t GetLastError()') as () => number,
    currentProcess: library.func('intptr_t GetCurrentProcess()') as () => Handle,
    openProcess: library.func('intptr_t OpenProcess(uint32_t access, int inherit, uint32_t pid)') as (
      access: number,
      inherit: 0,
      pid: number,
    ) => Handle,
    terminateProcess: library.func('int TerminateProcess(intptr_t process, uint32_t code)') as (process: Handle, code: number) => number,
    createJob: library.func('intptr_t CreateJobObjectW(void *security, void *name)') as (security: null, name: null) => Handle,
    assignToJob: library.func('int AssignProcessToJobObject(intptr_t job, intptr_t process)') as (job: Handle, process: Handle) => number,
    setJob: library.func('int SetInformationJobObject(intptr_t job, int kind, void *information, uint32_t bytes)') as (
      job: Handle,
      kind: number,
      information: Buffer,
      bytes: number,
    ) => number,
    queryJob: library.func('int QueryInformationJobObject(intptr_t job, int kind, void *information, uint32_t bytes, void *needed)') as (
      job: Handle,
      kind: number,
      information: Buffer,
      bytes: number,
      needed: null,
    ) => number,
    getAffinity: library.func('int GetProcessAffinityMask(intptr_t process, void *own, void *all)') as (
      process: Handle,
      own: Buffer,
      all: Buffer,
    ) => number,
    setAffinity: library.func('int SetProcessAffinityMask(intptr_t process, uint64_t mask)') as (process: Handle, mask: bigint) => number,
    inJob: library.func('int IsProcessInJob(intptr_t process, intptr_t job, void *result)') as (
      process: Handle,
      job: 0,
      result: Buffer,
    ) => number,
    createProcess: library.func(
      'int CreateProcessW(str16 program, str16 line, void *process, void *thread, int inherit, uint32_t flags, void *environment, str16 directory, void *startup, void *information)',
    ) as (
      program: string,
      line: string,
      process: null,
      thread: null,
      inherit: 0 | 1,
      flags: number,
      environment: Buffer,
      directory: string,
      startup: Buffer,
      information: Buffer,
    ) => number,
    exitCode: library.func('int GetExitCodeProcess(intptr_t process, void *code)') as (process: Handle, code: Buffer) => number,
    processTimes: library.func('int GetProcessTimes(intptr_t process, void *created, void *ended, void *kernel, void *user)') as (
      process: Handle,
      ...times: Buffer[]
    ) => number,
    processTraffic: library.func('int GetProcessIoCounters(intptr_t process, void *counters)') as (
      process: Handle,
      counters: Buffer,
    ) => number,
    systemInformation: native.func('uint32_t NtQuerySystemInformation(int kind, void *information, uint32_t bytes, void *needed)') as (
      kind: number,
      information: Buffer,
      bytes: number,
      needed: null,
    ) => number,
  }
}

/** What a call left behind, for messages: `error 5`. To be asked for at once, before another call. */
export function lastError(): string {
  return `error ${kernel().lastError()}`
}
