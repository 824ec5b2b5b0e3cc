/** `engine.schema`: SQL that a new database begins with. */

import fs from 'node:fs'
import { DaemonGuardError, messageOf } from '../errors.ts'
import { Session } from './session.ts'
import type { SessionContext } from './session-context.ts'

/** Runs the file's statements as a client's, so that they are journaled; all of them or none. Throws DaemonGuardError. */
export async function applySchemaFile(context: SessionContext, file: string): Promise<void> {
  const sql = fs.readFileSync(file, 'utf8')
  const session = await Session.open(context, {
    id: 0,
    user: 'daemonguard',
    readonly: false,
    database: '',
    applicationName: 'schema file',
    parameters: new Map(),
    remote: 'local',
    end: () => {},
    deallocate: () => false,
    report: () => {},
  })
  try {
    await session.simpleQuery(sql, {
      rows: async () => {},
      copyOut: async () => 0,
      foreseen: () => {},
      complete: () => {},
      empty: () => {},
      notice: () => {},
      copyIn: () => {
        throw new DaemonGuardError('a schema file cannot hold COPY data', { where: file })
      },
    })
    await session.barrier()
  } catch (error) {
    throw new DaemonGuardError(`the schema file failed: ${messageOf(error)}`, {
      where: file,
      hint: 'correct it; nothing of it was applied',
      cause: error,
    })
  } finally {
    await session.close()
  }
}
