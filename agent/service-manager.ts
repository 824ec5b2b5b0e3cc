/** The seam between the agent and what started it as a service: systemd (agent/systemd.ts) or Windows' service manager (agent/windows/service.ts). */

import type { Agent } from './agent.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'

/** Wants to know how the agent is. Nothing here throws: a service manager that cannot be told must not disturb the agent. */
export interface ServiceManager {
  /** Tells it about the agent from now on; `started` settles when the agent has tried everything once. */
  accompany(started: Promise<void>): void
  /** The agent begins to stop. */
  stopping(): Promise<void>
}

/** How an agent is run: in a terminal, under systemd, or as a service of Windows. */
export interface Surroundings {
  log(config: Config): Log
  /** Null where nobody wants to know. */
  manager(agent: Agent): ServiceManager | null
}
