/**
 * The program of the threads that work for queries, and of the one that writes, run as workers of Node's (task-thread.ts). They call DuckDB's C API on objects
 * that the event loop's thread has made, and so take part in the one instance. The priority of those for queries is lower than that of all other threads.
 */

import os from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import koffi from 'koffi'
import { duckdbLibrary } from './duckdb-library.ts'
import { type Order, type Report, type ThreadRole, taskState } from './task-thread.ts'

/** How much nicer (nice(2)) than the rest of the process. Not the most: whoever waits for what such a thread holds waits for its turn. */
const nicer = 10
/** ms between two looks for a task. */
const interval = 0.05
/** ms that a query works at most before it is reported on. */
const longest = 100
const { name, waiting } = workerData as ThreadRole

/** Priority and name are the thread's own on Linux; elsewhere Node's calls would mean the process. Any user may lower a priority; nobody else may raise it again. */
function introduce(): void {
  if (process.platform === 'linux') {
    if (waiting !== undefined) os.setPriority(Math.min(os.getPriority() + nicer, 19))
    koffi.load('libc.so.6').func('int prctl(int option, const char *name)')(15, name)
  } else if (process.platform === 'win32' && waiting !== undefined) {
    const kernel = koffi.load('kernel32.dll')
    // THREAD_PRIORITY_LOWEST
    kernel.func('int SetThreadPriority(void *thread, int priority)')(kernel.func('void *GetCurrentThread()')(), -2)
  }
}

introduce()
const library = duckdbLibrary()
koffi.struct('duckdb_result', {
  columnCount: 'uint64_t',
  rowCount: 'uint64_t',
  rowsChanged: 'uint64_t',
  columns: 'void *',
  error: 'void *',
  data: 'void *',
})
const executeTask = library.func('int duckdb_pending_execute_task(void *pending)')
const executePrepared = library.func('int duckdb_execute_prepared(void *statement, void *result)')
const rowsChanged = library.func('uint64_t duckdb_rows_changed(void *result)')
const destroyResult = library.func('void duckdb_destroy_result(void *result)')
const createState = library.func('void *duckdb_create_task_state(void *database)')
const executeAny = library.func('uint64_t duckdb_execute_n_tasks_state(void *state, uint64_t most)')
const fetchChunk = library.func('void *duckdb_fetch_chunk(duckdb_result result)')
const resultError = library.func('const char *duckdb_result_error(void *result)')
const columnCount = library.func('uint64_t duckdb_data_chunk_get_column_count(void *chunk)')
const chunkSize = library.func('uint64_t duckdb_data_chunk_get_size(void *chunk)')
const vectorOf = library.func('void *duckdb_data_chunk_get_vector(void *chunk, uint64_t column)')
const referTo = library.func('void duckdb_vector_reference_vector(void *to, void *from)')
const destroyChunk = library.func('void duckdb_destroy_data_chunk(void **chunk)')

const nothing = { state: taskState.notReady, rows: 0, error: null }
const still = new Int32Array(new SharedArrayBuffer(4))
/** Of the one database. */
let taskStateOfDatabase: bigint | undefined
let ownResult: unknown

function work(pending: bigint, begun: number, ms: number): Omit<Report, 'ms'> {
  const goesOn = (past: number) => past < ms || (past < longest && waiting !== undefined && Atomics.load(waiting, 0) === 0)
  let state: number
  do state = executeTask(pending)
  while (state === taskState.notReady && goesOn(performance.now() - begun))
  return { ...nothing, state }
}

function fetch(result: bigint, into: bigint): Omit<Report, 'ms'> {
  const chunk: bigint | null = fetchChunk(koffi.decode(result, 'duckdb_result'))
  if (chunk === null) return { ...nothing, error: resultError(result) }
  const rows = Number(chunkSize(chunk))
  const columns = Number(columnCount(chunk))
  for (let column = 0; column < columns; column++) referTo(vectorOf(into, column), vectorOf(chunk, column))
  destroyChunk([chunk])
  return { ...nothing, rows }
}

/** Without DuckDB's own way of waiting: that counts every task that there has ever been. */
function help(database: bigint, end: number): Omit<Report, 'ms'> {
  taskStateOfDatabase ??= createState(database) as bigint
  while (performance.now() < end) if (Number(executeAny(taskStateOfDatabase, 1)) === 0) Atomics.wait(still, 0, 0, interval)
  return nothing
}

/** Its own result is used again and again: what the thread has freed, it is given next. */
function execute(statement: bigint): Omit<Report, 'ms'> {
  ownResult ??= koffi.alloc('duckdb_result', 1)
  try {
    const failed = executePrepared(statement, ownResult) !== 0
    return failed
      ? { ...nothing, error: resultError(ownResult) ?? 'DuckDB told no reason' }
      : { ...nothing, rows: Number(rowsChanged(ownResult)) }
  } finally {
    destroyResult(ownResult)
  }
}

function obey(order: Order, begun: number): Omit<Report, 'ms'> {
  switch (order.do) {
    case 'work':
      return work(order.pending, begun, order.ms)
    case 'fetch':
      return fetch(order.result, order.into)
    case 'help':
      return help(order.database, begun + order.ms)
    case 'execute':
      return execute(order.statement)
  }
}

parentPort?.on('message', (order: Order) => {
  const begun = performance.now()
  parentPort?.postMessage({ ...obey(order, begun), ms: performance.now() - begun } satisfies Report)
})
parentPort?.postMessage('ready')
