/** Starts busy-engine.ts, and speaks with it as plugins speak with the engine. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { DuckFileReader } from '../../agent/duckfile/reader.ts'
import type { EngineControl, EngineStatus } from '../../agent/plugin.ts'
import { onExit } from '../support/cleanup.ts'
import { temporaryDirectory } from '../support/temp.ts'

export interface BusyEngine {
  readonly file: string
  /** Checkpoints, keeps further ones away; the content of the file from now on. */
  hold(): Promise<string>
  release(): void
  /** SIGKILL. */
  stop(): Promise<void>
  /** Each checkpoint's seq is its iteration. `held` counts the holds that were not released. */
  control(databaseId: string): EngineControl & { held: number }
}

export async function busyEngine(file = path.join(temporaryDirectory('busy'), 'busy.duckdb')): Promise<BusyEngine> {
  const child = fork(path.join(import.meta.dirname, 'busy-engine.ts'), [file])
  onExit(() => child.kill('SIGKILL'))
  await once(child, 'message')
  const engine: BusyEngine = {
    file,
    async hold() {
      child.send('hold')
      const [message] = await once(child, 'message')
      return message.held
    },
    release: () => void child.send('release'),
    async stop() {
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
    control(databaseId) {
      const control = {
        held: 0,
        status: async () => ({ databaseId, databasePath: file }) as EngineStatus,
        checkpoint: async () => ({ watermark: 0 }),
        probe: async () => 0,
        async hold() {
          await engine.hold()
          control.held++
          const reader = await DuckFileReader.open(file, {})
          const { iteration } = (await reader.headers()).header
          await reader.close()
          return {
            watermark: iteration,
            iteration,
            lost: false,
            async release() {
              engine.release()
              control.held--
            },
          }
        },
      }
      return control
    },
  }
  return engine
}
