/** One statement that changes rows of a table: run, captured, and checked for what DuckDB lets pass. */

import type { Cell } from '../journal/types.ts'
import type { Answer } from './answer.ts'
import {
  type CaptureContext,
  type Captured,
  captureDelete,
  captureInsert,
  capturePlainInsert,
  captureTruncate,
  captureUpdate,
} from './capture.ts'
import type { TableInfo } from './catalog.ts'
import { copyIn, copyTarget } from './copy-in.ts'
import { captureMerge } from './merge.ts'
import type { Parameter, StatementSink } from './pgwire/backend.ts'
import { refuseDangling } from './references.ts'
import { MemoryRows } from './row-stream.ts'
import type { QualifiedName, Statement } from './sql/statement.ts'

type RowStatement = Extract<Statement, { target: QualifiedName }>

export async function changeRows(
  context: CaptureContext,
  statement: RowStatement,
  info: TableInfo,
  parameters: readonly Parameter[],
  sink: StatementSink,
): Promise<Answer> {
  const changed = await run(context, statement, info, parameters, sink).catch((error) => {
    throw underItsName(error, info)
  })
  await check(context, info)
  return changed
}

/** An INSERT of one row whose values are known beforehand (plain-insert.ts). */
export async function insertPlainly(
  context: CaptureContext,
  statement: Extract<Statement, { kind: 'insert' }>,
  info: TableInfo,
  cells: readonly Cell[],
  parameters: readonly Parameter[],
): Promise<void> {
  await capturePlainInsert(context, statement, info, cells, parameters)
  await check(context, info)
}

async function check({ locks, transaction, executor, catalog }: CaptureContext, info: TableInfo): Promise<void> {
  if (locks.deletes(transaction, info.parents)) await refuseDangling(executor.connection, catalog, info)
}

/** An error about the copy of a table is about the table. */
function underItsName(error: unknown, { table }: TableInfo): unknown {
  if (error instanceof Error) error.message = error.message.replaceAll(/daemonguard (copy|proposed)/g, table.name)
  return error
}

async function run(
  context: CaptureContext,
  statement: RowStatement,
  info: TableInfo,
  parameters: readonly Parameter[],
  sink: StatementSink,
): Promise<Answer> {
  switch (statement.kind) {
    case 'insert':
      return answer(await captureInsert(context, statement, info, parameters), 'INSERT 0')
    case 'update':
      return answer(await captureUpdate(context, statement, info, parameters), 'UPDATE')
    case 'delete':
      return answer(await captureDelete(context, statement, info, parameters), 'DELETE')
    case 'merge':
      return answer(await captureMerge(context, statement, info, parameters), 'MERGE')
    case 'truncate':
      await captureTruncate(context, statement.targetText, info)
      return 'TRUNCATE TABLE'
    case 'copy-in': {
      const target = copyTarget(info, statement.columns, statement.options)
      context.locks.referring(info.parents, context.transaction)
      const format = target.options.format === 'binary' ? 'binary' : 'text'
      return `COPY ${await copyIn(context.executor, context.transaction, target, sink.copyIn(format, target.columns.length))}`
    }
  }
}

function answer(captured: Captured, verb: string): Answer {
  const tag = `${verb} ${captured.count}`
  return captured.returned === undefined ? tag : new MemoryRows(captured.returned.fields, captured.returned.rows, tag)
}
