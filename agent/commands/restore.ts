/** `restore`: the snapshot step of the recovery ladder, by hand. */

import path from 'node:path'
import { askAgent, NoAgent } from '../agent-control.ts'
import { ExitCode } from '../errors.ts'
import { createLog } from '../log.ts'
import type { Paths } from '../paths.ts'
import { type RestoreResult, restoreOffline } from '../restore.ts'
import { type Command, jsonOption, print } from './command.ts'
import { locate } from './configuration.ts'

const command: Command = {
  usage: 'restore [--snapshot NAME] [--json] [-c FILE]',
  help: [
    'Moves the database file to quarantine, puts the newest verified snapshot in its place and replays the journal onto it: nothing is lost.',
    'With an agent, the engine serves again when this ends; without, the journal is replayed at the next start.',
    'Clients are disconnected.',
    '--snapshot NAME  another one of `daemonguard snapshot list`, by its name or its seq; the outcome is the same, replayed from further back.',
  ],
  options: { ...jsonOption, snapshot: { type: 'string' } },
  async run(call) {
    const { paths } = await locate(call)
    const result = await restore(paths, call.values.snapshot as string | undefined)
    print(call, result, [
      ...result.actions,
      result.snapshot === null
        ? 'no snapshot was used'
        : `the database is ${path.basename(result.snapshot.file)} (seq ${result.snapshot.seq}) and ${result.serving ? 'the journal after it' : 'the next start replays the journal after it: daemonguard run'}`,
      result.loss === 0 ? 'nothing is lost' : `lost: ${JSON.stringify(result.loss)}`,
    ])
    return result.loss === 0 ? ExitCode.ok : ExitCode.failed
  },
}
export default command

async function restore(paths: Paths, snapshot: string | undefined): Promise<RestoreResult> {
  try {
    return await askAgent<RestoreResult>(paths.agentSocket, 'restore', { snapshot })
  } catch (error) {
    if (!(error instanceof NoAgent)) throw error
    return await restoreOffline(paths, snapshot, createLog({ name: 'restore', level: 'warn', destination: 2 }))
  }
}
