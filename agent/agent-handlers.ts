/** What the agent's control socket understands: the acts of `scan`, `snapshot`, `restore` and `stop`, and the facts of `status`, which also closes incidents. */

import type { Agent } from './agent.ts'
import type { Handlers } from './agent-control.ts'
import { waitUntil } from './clock.ts'
import { scanFile } from './duckfile/scan.ts'
import { readRateOf, scanHeld, scanner } from './integrity.ts'
import type { Incident } from './plugin.ts'
import { pickSnapshot, type RestoreResult } from './restore.ts'
import { takeSnapshot } from './snapshots.ts'

export function handlersOf(agent: Agent): Handlers {
  const { engine, paths, clock, supervisor } = agent
  const maxBytesPerSecond = readRateOf(agent.config)
  return {
    status: () => agent.status(),
    close: async ({ id, reason }) => agent.incidents.settle(String(id), String(reason)),

    async scan(_params, signal) {
      // Without an engine nobody writes the file; should one start meanwhile and checkpoint, the scan notices.
      const result = await (supervisor.current === null
        ? scanFile(paths.database, { signal, clock })
        : scanHeld(engine, paths.database, { signal, clock, maxBytesPerSecond }))
      // What to do about damage is the scanner's business: it looks for itself, now instead of at its next turn.
      if (result.verdict === 'damaged') agent.plugins.prompt(scanner)
      return result
    },

    snapshot: (_params, signal) => takeSnapshot({ engine, paths, clock, signal, maxBytesPerSecond }),

    async restore({ snapshot: name }, signal) {
      const snapshot = await pickSnapshot(paths, typeof name === 'string' ? name : undefined, signal)
      agent.log.warn({ snapshot: snapshot.file }, 'an operator asked for a restore')
      agent.chosen.choose(snapshot.file)
      const since = clock.now()
      try {
        await supervisor.restoreDatabase('an operator asked for it: daemonguard restore', { snapshot: snapshot.file })
      } finally {
        agent.chosen.choose(null)
      }
      // Closed by the first probe, which adds what the replay cost: before that the loss is not known.
      let incident: Incident | undefined
      await waitUntil(
        () => {
          incident = agent.incidents
            .list(10)
            .find(({ evidence, closedAt }) => evidence.quarantine !== undefined && (closedAt ?? since) >= since)
          return incident === undefined || incident.closedAt !== null
        },
        { deadline: 30_000, clock, signal },
      )
      const { file, seq } = snapshot
      return {
        snapshot: { file, seq },
        actions: incident?.actions ?? [],
        loss: incident?.closedAt === null ? 'unknown' : (incident?.loss ?? 0),
        serving: true,
      } satisfies RestoreResult
    },

    async stop({ engine: engineToo }) {
      const how = { engine: engineToo === true }
      const stopped = agent.supervisor.current !== null
      agent.requestStop(how)
      // Answered at once; that the agent has ended is seen by its pid.
      return { pid: process.pid, engine: how.engine && stopped }
    },
  }
}
