/** `stop`: ends the agent; the engine goes on serving unless `--engine` asks for its end too (after a checkpoint). */

import { askAgent, NoAgent } from '../agent-control.ts'
import { waitUntil } from '../clock.ts'
import { EngineClient } from '../engine-client.ts'
import { DaemonGuardError, ExitCode } from '../errors.ts'
import type { Paths } from '../paths.ts'
import { type Command, jsonOption, print } from './command.ts'
import { locate } from './configuration.ts'

/** An engine's last checkpoint may take a while. */
const deadline = 120_000

const command: Command = {
  usage: 'stop [--engine] [--json] [-c FILE]',
  help: [
    'Stops the agent. The engine is a process of its own and goes on serving; the next agent adopts it.',
    '--engine stops the engine too, after a checkpoint. It ends the sessions of its clients.',
    'Stopping what does not run is no error.',
  ],
  options: { ...jsonOption, engine: { type: 'boolean' } },
  async run(call) {
    const { paths } = await locate(call)
    const engineToo = call.values.engine === true
    const agent = await stopAgent(paths, engineToo)
    const engine = engineToo ? await stopEngine(paths) : null
    const rest = await EngineClient.connect(paths.controlSocket).catch(() => undefined)
    rest?.close()
    if (engineToo && rest !== undefined)
      throw new DaemonGuardError(`an engine still serves: pid ${rest.hello.pid}`, { hint: 'daemonguard stop --engine' })
    print(call, { agent, engine: engine ?? agent?.engine ?? null, engineRuns: rest !== undefined }, [
      agent === null ? 'no agent was running' : `the agent (pid ${agent.pid}) has stopped`,
      rest !== undefined
        ? `the engine (pid ${rest.hello.pid}) goes on; to stop it: daemonguard stop --engine`
        : engineToo && (engine !== null || agent?.engine === true)
          ? 'the engine has stopped'
          : 'no engine is running',
    ])
    return ExitCode.ok
  },
}
export default command

async function stopAgent(paths: Paths, engine: boolean): Promise<{ pid: number; engine: boolean } | null> {
  try {
    const stopped = await askAgent<{ pid: number; engine: boolean }>(paths.agentSocket, 'stop', { engine }, { timeoutMs: deadline })
    // It answers before it ends: its lock must be free when this command returns, so that `stop && run` works.
    if (!(await waitUntil(() => !lives(stopped.pid), { deadline: 15_000, every: 20 }))) {
      throw new DaemonGuardError(`the agent (pid ${stopped.pid}) has not ended`, { hint: 'look at its log' })
    }
    return stopped
  } catch (error) {
    if (error instanceof NoAgent) return null
    throw error
  }
}

/** Ends an engine that no agent looks after. Null when none serves. */
async function stopEngine(paths: Paths): Promise<true | null> {
  const client = await EngineClient.connect(paths.controlSocket).catch(() => undefined)
  if (client === undefined) return null
  const { pid } = client.hello
  await client.shutdown({ checkpoint: true })
  if (!(await waitUntil(() => !lives(pid), { deadline, every: 20 })))
    throw new DaemonGuardError(`the engine (pid ${pid}) has not ended`, { where: paths.engineLog })
  client.close()
  return true
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
