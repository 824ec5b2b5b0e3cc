/** The calls of Windows' service manager (services.msc, sc.exe), its event log and its registry, by their names in Microsoft's documentation. */

import koffi from 'koffi'
import type { Handle } from './kernel.ts'

/** A service's state (SERVICE_STATUS.dwCurrentState). */
export const State = { stopped: 1, startPending: 2, stopPending: 3, running: 4 } as const
/** What a service is asked. */
export const Control = { stop: 1, interrogate: 4, preshutdown: 15 } as const
export const ERROR_ACCESS_DENIED = 5
export const ERROR_CALL_NOT_IMPLEMENTED = 120
export const ERROR_SERVICE_ALREADY_RUNNING = 1056
export const ERROR_SERVICE_DOES_NOT_EXIST = 1060
/** The exit code is in dwServiceSpecificExitCode. */
export const ERROR_SERVICE_SPECIFIC_ERROR = 1066

/** What ChangeServiceConfig2W changes: the level and the type of its information. */
export const Setting = { description: 1, failureActions: 2, preshutdown: 7 } as const

export type ServiceHandler = (control: number, event: number, data: unknown, context: unknown) => number

let loaded: ReturnType<typeof load> | undefined

export function serviceCalls() {
  loaded ??= load()
  return loaded
}

function load() {
  const library = koffi.load('advapi32.dll')
  const main = koffi.pointer(koffi.proto('void __stdcall DgServiceMain(uint32_t count, void *arguments)'))
  const handler = koffi.pointer(
    koffi.proto('uint32_t __stdcall DgServiceHandler(uint32_t control, uint32_t event, void *data, void *context)'),
  )
  // SERVICE_TABLE_ENTRYW, SERVICE_DESCRIPTIONW, SC_ACTION, SERVICE_FAILURE_ACTIONSW, SERVICE_PRESHUTDOWN_INFO
  koffi.struct('DgServiceEntry', { name: 'str16', main })
  koffi.struct('DgDescription', { text: 'str16' })
  koffi.struct('DgAction', { type: 'int', delay: 'uint32_t' })
  koffi.struct('DgFailureActions', { reset: 'uint32_t', reboot: 'str16', command: 'str16', count: 'uint32_t', actions: 'DgAction *' })
  koffi.struct('DgPreshutdown', { timeout: 'uint32_t' })
  const change = (type: string) =>
    library.func(`int ChangeServiceConfig2W(intptr_t service, uint32_t level, ${type} *information)`) as (
      service: Handle,
      level: number,
      information: object,
    ) => number
  return {
    registerMain: (work: () => void) => koffi.register(work, main),
    registerHandler: (work: ServiceHandler) => koffi.register(work, handler),
    /** Ends when the service has; called on a thread of its own. */
    dispatch: library.func('int StartServiceCtrlDispatcherW(DgServiceEntry *table)'),
    registerControlHandler: library.func('RegisterServiceCtrlHandlerExW', 'intptr_t', ['str16', handler, 'void *']) as (
      name: string,
      handler: unknown,
      context: null,
    ) => Handle,
    setStatus: library.func('int SetServiceStatus(intptr_t status, void *facts)') as (status: Handle, facts: Buffer) => number,

    openManager: library.func('intptr_t OpenSCManagerW(str16 machine, str16 database, uint32_t access)') as (
      machine: null,
      database: null,
      access: number,
    ) => Handle,
    open: library.func('intptr_t OpenServiceW(intptr_t manager, str16 name, uint32_t access)') as (
      manager: Handle,
      name: string,
      access: number,
    ) => Handle,
    create: library.func(
      'intptr_t CreateServiceW(intptr_t manager, str16 name, str16 display, uint32_t access, uint32_t type, uint32_t start, uint32_t error, str16 program, str16 group, void *tag, str16 dependencies, str16 account, str16 password)',
    ) as (manager: Handle, name: string, display: string, ...rest: (number | string | null)[]) => Handle,
    configure: library.func(
      'int ChangeServiceConfigW(intptr_t service, uint32_t type, uint32_t start, uint32_t error, str16 program, str16 group, void *tag, str16 dependencies, str16 account, str16 password, str16 display)',
    ) as (service: Handle, ...rest: (number | string | null)[]) => number,
    describe: change('DgDescription'),
    setFailureActions: change('DgFailureActions'),
    setPreshutdown: change('DgPreshutdown'),
    query: library.func('int QueryServiceStatusEx(intptr_t service, int level, void *facts, uint32_t size, void *needed)') as (
      service: Handle,
      level: 0,
      facts: Buffer,
      size: number,
      needed: Buffer,
    ) => number,
    start: library.func('int StartServiceW(intptr_t service, uint32_t count, void *arguments)') as (
      service: Handle,
      count: 0,
      arguments_: null,
    ) => number,
    control: library.func('int ControlService(intptr_t service, uint32_t control, void *status)') as (
      service: Handle,
      control: number,
      status: Buffer,
    ) => number,
    remove: library.func('int DeleteService(intptr_t service)') as (service: Handle) => number,
    close: library.func('int CloseServiceHandle(intptr_t handle)') as (handle: Handle) => number,

    registerEventSource: library.func('intptr_t RegisterEventSourceW(str16 machine, str16 source)') as (
      machine: null,
      source: string,
    ) => Handle,
    reportEvent: library.func(
      'int ReportEventW(intptr_t log, uint16_t type, uint16_t category, uint32_t id, void *user, uint16_t count, uint32_t size, str16 *strings, void *data)',
    ) as (log: Handle, type: number, category: 0, id: number, user: null, count: number, size: 0, strings: string[], data: null) => number,

    setRegistryValue: library.func(
      'int32_t RegSetKeyValueW(intptr_t key, str16 path, str16 name, uint32_t type, void *data, uint32_t size)',
    ) as (key: Handle, path: string, name: string, type: number, data: Buffer, size: number) => number,
    removeRegistryTree: library.func('int32_t RegDeleteTreeW(intptr_t key, str16 path)') as (key: Handle, path: string) => number,
  }
}
