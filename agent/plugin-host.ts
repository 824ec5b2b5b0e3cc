/** All plugins of an agent: started side by side, told of the engine together, stopped in reverse. None can disturb another (agent/guarded-plugin.ts). */

import { type ConfiguredPlugin, GuardedPlugin, type PluginServices } from './guarded-plugin.ts'
import type { LagReport, PluginReport } from './status-report.ts'

export type { ConfiguredPlugin, PluginServices } from './guarded-plugin.ts'

export class PluginHost {
  #plugins: GuardedPlugin[]

  constructor(services: PluginServices, configured: readonly ConfiguredPlugin[]) {
    this.#plugins = configured.map((each) => new GuardedPlugin(services, each))
  }

  /** Starts all of them side by side; resolves when each has been tried once. Never rejects. */
  async start(): Promise<void> {
    await Promise.all(this.#plugins.map((plugin) => plugin.start()))
  }

  /** Tells every plugin that the engine went or came. */
  engineIs(state: 'up' | 'down'): void {
    for (const plugin of this.#plugins) plugin.engineIs(state)
  }

  /** Tells every plugin how far the journal is durable. */
  durableIs(seq: number): void {
    for (const plugin of this.#plugins) plugin.durableIs(seq)
  }

  /** Runs a plugin's main job (the first that it scheduled) now, if it is there and not under way. Does not wait for it. */
  prompt(name: string): void {
    this.#plugins.find((plugin) => plugin.name === name)?.prompt()
  }

  reports(): PluginReport[] {
    return this.#plugins.map((plugin) => plugin.report())
  }

  lags(): LagReport[] {
    return this.#plugins.flatMap((plugin) => plugin.lag() ?? [])
  }

  /** Stops them in reverse order, each within `graceMs`. Safe twice. */
  async stop(graceMs = 5000): Promise<void> {
    for (const plugin of [...this.#plugins].reverse()) await plugin.stop(graceMs)
  }
}
