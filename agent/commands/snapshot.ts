/** `snapshot [list]`: a verified copy of the database now, or what there is. */

import path from 'node:path'
import { askAgent, NoAgent } from '../agent-control.ts'
import { systemClock } from '../clock.ts'
import { EngineClient } from '../engine-client.ts'
import { DaemonGuardError, ExitCode } from '../errors.ts'
import type { Paths } from '../paths.ts'
import { listSnapshots, type Snapshot, takeSnapshot, type UsableSnapshot } from '../snapshots.ts'
import { bytes, moment } from '../status-report.ts'
import { type Call, type Command, didYouMean, jsonOption, print, UsageError } from './command.ts'
import { locate, locateReadRate } from './configuration.ts'

const command: Command = {
  usage: 'snapshot [list] [--json] [-c FILE]',
  help: [
    "Copies the database file at its last checkpoint while every live block is verified on the way, beside its writers, at integrity-scanner's max_read_rate.",
    'What was committed since that checkpoint is in the journal; `daemonguard checkpoint` first brings it into the file.',
    'list  the snapshots there are, newest first. Needs neither agent nor engine.',
  ],
  options: jsonOption,
  positionals: { least: 0, most: 1 },
  async run(call) {
    const [verb] = call.positionals
    if (verb !== undefined && verb !== 'list')
      throw new UsageError(`snapshot cannot "${verb}"`, `${didYouMean(verb, ['list'])}daemonguard snapshot --help`)
    const { paths } = await locate(call)
    if (verb === 'list') {
      const snapshots = listSnapshots(paths.snapshots)
      print(
        call,
        { directory: paths.snapshots, snapshots },
        snapshots.length === 0 ? [`no snapshots in ${paths.snapshots}`] : snapshots.map(line),
      )
      return ExitCode.ok
    }
    const taken = await take(call, paths)
    print(call, taken, [`${taken.file}`, `  seq ${taken.seq}, ${bytes(taken.manifest.bytes)}, every live block verified`])
    return ExitCode.ok
  },
}
export default command

async function take(call: Call, paths: Paths): Promise<UsableSnapshot> {
  try {
    return await askAgent<UsableSnapshot>(paths.agentSocket, 'snapshot')
  } catch (error) {
    if (!(error instanceof NoAgent)) throw error
  }
  const client = await EngineClient.connect(paths.controlSocket).catch((error) => {
    throw new DaemonGuardError('no engine runs on this data directory', {
      where: paths.controlSocket,
      hint: 'daemonguard run',
      exitCode: ExitCode.unknown,
      cause: error,
    })
  })
  try {
    return await takeSnapshot({ engine: client, paths, clock: systemClock, maxBytesPerSecond: await locateReadRate(call) })
  } finally {
    client.close()
  }
}

function line(snapshot: Snapshot): string {
  const name = path.basename(snapshot.file)
  if (!snapshot.usable) return `${name}  unusable: ${snapshot.reason}`
  return `${name}  seq ${snapshot.seq}  ${bytes(snapshot.manifest.bytes)}  ${moment(snapshot.createdAt)}`
}
