/** Services of Windows as an administrator handles them: made, changed, started, stopped, removed, looked at. */

import { waitUntil } from '../clock.ts'
import { DaemonGuardError } from '../errors.ts'
import { isAlive } from '../supervisor/process.ts'
import { type Handle, kernel } from './kernel.ts'
import {
  Control,
  ERROR_ACCESS_DENIED,
  ERROR_SERVICE_ALREADY_RUNNING,
  ERROR_SERVICE_DOES_NOT_EXIST,
  ERROR_SERVICE_SPECIFIC_ERROR,
  Setting,
  State,
  serviceCalls,
} from './service-calls.ts'

const SC_MANAGER_CONNECT = 1
const SC_MANAGER_CREATE_SERVICE = 2
const SERVICE_QUERY_STATUS = 4
const SERVICE_ALL_ACCESS = 0xf01ff
const SERVICE_WIN32_OWN_PROCESS = 0x10
const SERVICE_AUTO_START = 2
const SERVICE_ERROR_NORMAL = 1
const SC_ACTION_RESTART = 1

/** What is asked of a service manager beside the program. */
export interface ServiceDefinition {
  name: string
  description: string
  /** The whole command line, quoted. */
  commandLine: string
  /** Pauses before it is started again after its first, second, third … death; the last one counts for all that follow. */
  restartMs: readonly number[]
  /** After so long without a death, the first pause counts again. */
  resetSeconds: number
  /** How long a shutdown of Windows waits for it. */
  preshutdownMs: number
}

export interface ServiceFacts {
  /** One of State. */
  state: number
  pid: number
  /** As the service has said it when it stopped; 1067 when it died without a word. */
  exitCode: number
}

/** Looks at it; undefined when there is no such service. */
export function queryService(name: string): ServiceFacts | undefined {
  return withService(name, SERVICE_QUERY_STATUS, (service) => factsOf(service))
}

/** Throws, with what to do about it, for a user who may not make services. */
export function requireAdministrator(): void {
  withManager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE, () => {})
}

/** Makes the service, or changes the one that is there; it starts with Windows. */
export function defineService(definition: ServiceDefinition): void {
  const calls = serviceCalls()
  const { name, description, commandLine, restartMs, resetSeconds, preshutdownMs } = definition
  const fixed = [SERVICE_WIN32_OWN_PROCESS, SERVICE_AUTO_START, SERVICE_ERROR_NORMAL, commandLine, null, null, null, null, null] as const
  withManager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE, (manager) => {
    let service = calls.open(manager, name, SERVICE_ALL_ACCESS)
    if (service === 0) {
      const code = kernel().lastError()
      if (code !== ERROR_SERVICE_DOES_NOT_EXIST) throw fault(`the service ${name} cannot be opened`, code)
      service = calls.create(manager, name, name, SERVICE_ALL_ACCESS, ...fixed)
      if (service === 0) throw fault(`the service ${name} cannot be made`, kernel().lastError())
    } else must(calls.configure(service, ...fixed, name), `the service ${name} cannot be changed`)
    try {
      must(calls.describe(service, Setting.description, { text: description }), 'the service was given no description')
      const actions = restartMs.map((delay) => ({ type: SC_ACTION_RESTART, delay }))
      const failure = { reset: resetSeconds, reboot: null, command: null, count: actions.length, actions }
      must(calls.setFailureActions(service, Setting.failureActions, failure), 'the service manager was not told to start it again')
      must(
        calls.setPreshutdown(service, Setting.preshutdown, { timeout: preshutdownMs }),
        'the service manager was not told how long a shutdown waits',
      )
    } finally {
      calls.close(service)
    }
  })
}

/** Resolves once it runs; rejects when it stops instead, or does not get there by the deadline (ms). */
export async function startService(name: string, deadline: number): Promise<void> {
  withService(name, SERVICE_ALL_ACCESS, (service) => {
    if (serviceCalls().start(service, 0, null) !== 0) return
    const code = kernel().lastError()
    if (code !== ERROR_SERVICE_ALREADY_RUNNING) throw fault(`the service ${name} does not start`, code)
  })
  const reached = await waitUntil(() => [State.running, State.stopped].some((state) => queryService(name)?.state === state), {
    deadline,
    every: 100,
  })
  const facts = queryService(name)
  if (facts?.state === State.running) return
  const what = reached ? `it has stopped, exit code ${facts?.exitCode}` : `it is still starting after ${deadline / 1000} s`
  throw new DaemonGuardError(`the service ${name} does not run: ${what}`, { hint: 'its log, and the event log: eventvwr' })
}

/** Resolves once it has stopped and its process is gone; at once when it does not run. */
export async function stopService(name: string, deadline: number): Promise<void> {
  // One that is starting takes no controls.
  await waitUntil(() => queryService(name)?.state !== State.startPending, { deadline, every: 100 })
  const before = queryService(name)
  if (before === undefined) return
  if (before.state === State.startPending)
    throw new DaemonGuardError(`the service ${name} is still starting, and cannot be stopped before it runs`, { hint: 'daemonguard stop' })
  const refused = withService(name, SERVICE_ALL_ACCESS, (service) =>
    serviceCalls().control(service, Control.stop, Buffer.alloc(28)) === 0 ? kernel().lastError() : undefined,
  )
  const hasEnded = () => queryService(name)?.state === State.stopped && !isAlive(before.pid)
  // One that has died in that moment takes no control, and the service manager needs a moment to see why.
  if (await waitUntil(hasEnded, { deadline: refused === undefined ? deadline : Math.min(deadline, 5000), every: 100 })) return
  if (refused !== undefined) throw fault(`the service ${name} cannot be stopped`, refused)
  throw new DaemonGuardError(`the service ${name} has not stopped within ${deadline / 1000} s`, { hint: 'daemonguard service status' })
}

/** It must have stopped. No such service is no error. */
export function removeService(name: string): void {
  withService(name, SERVICE_ALL_ACCESS, (service) => must(serviceCalls().remove(service), `the service ${name} cannot be removed`))
}

/** SERVICE_STATUS_PROCESS: type, state, controls, exit code, specific exit code, check point, hint, pid, flags. */
function factsOf(service: Handle): ServiceFacts {
  const facts = Buffer.alloc(36)
  must(serviceCalls().query(service, 0, facts, facts.length, Buffer.alloc(4)), 'the service manager does not tell how the service is')
  const word = (index: number) => facts.readUInt32LE(index * 4)
  return { state: word(1), pid: word(7), exitCode: word(3) === ERROR_SERVICE_SPECIFIC_ERROR ? word(4) : word(3) }
}

function withService<Result>(name: string, access: number, work: (service: Handle) => Result): Result | undefined {
  return withManager(SC_MANAGER_CONNECT, (manager) => {
    const service = serviceCalls().open(manager, name, access)
    if (service === 0) {
      const code = kernel().lastError()
      if (code === ERROR_SERVICE_DOES_NOT_EXIST) return undefined
      throw fault(`the service ${name} cannot be opened`, code)
    }
    try {
      return work(service)
    } finally {
      serviceCalls().close(service)
    }
  })
}

function withManager<Result>(access: number, work: (manager: Handle) => Result): Result {
  const manager = serviceCalls().openManager(null, null, access)
  if (manager === 0) throw fault('Windows’ service manager cannot be reached', kernel().lastError())
  try {
    return work(manager)
  } finally {
    serviceCalls().close(manager)
  }
}

function must(result: number, what: string): void {
  if (result === 0) throw fault(what, kernel().lastError())
}

function fault(what: string, code: number): DaemonGuardError {
  const hint = code === ERROR_ACCESS_DENIED ? 'in a terminal that was opened with "Run as administrator"' : `net helpmsg ${code}`
  return new DaemonGuardError(`${what}: error ${code}`, { hint })
}
