/**
 * What the agent as a service of Windows does at each word of the service manager, and what it says. A stand-in speaks for that manager, since Wine's says
 * nothing before a shutdown; agent and engine are real ones of this machine. The real manager, as Wine has it: test/build/windows.test.ts.
 */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { runAgent } from '../../agent/commands/run.ts'
import { readEngineFile } from '../../agent/supervisor/adopt.ts'
import { type ManagerCalls, WindowsService } from '../../agent/windows/service.ts'
import { Control, type ServiceHandler, State } from '../../agent/windows/service-calls.ts'
import { Stage } from '../agent/stage.ts'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('service manager of Windows')
const accepts = { stop: 1, preshutdown: 0x100 }

/** SERVICE_STATUS as it was told. */
interface Told {
  state: number
  accepted: number
  exitCode: number
  ownExitCode: number
  checkPoint: number
}

class Manager {
  readonly told: Told[] = []
  #handler: ServiceHandler = () => 0
  #stopped = () => {}

  readonly calls: ManagerCalls = {
    registerMain: (main) => main as never,
    registerHandler: (handler) => handler as never,
    registerControlHandler: (_name, handler) => {
      this.#handler = handler as ServiceHandler
      return 1
    },
    dispatch: {
      async: (table: { main: (() => void) | null }[], done: () => void) => {
        this.#stopped = done
        setImmediate(() => table[0]?.main?.())
      },
    } as never,
    setStatus: (_status, facts) => {
      const [state, accepted, exitCode, ownExitCode, checkPoint] = [1, 2, 3, 4, 5].map((word) => facts.readUInt32LE(word * 4))
      this.told.push({ state, accepted, exitCode, ownExitCode, checkPoint } as Told)
      if (state === State.stopped) this.#stopped()
      return 1
    },
  }

  control(control: number): number {
    return this.#handler(control, 0, null, null)
  }

  /** The states in their order, without repetitions. */
  states(): number[] {
    return this.told.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1])
  }
}

let stage: Stage

test.before(async () => {
  stage = await Stage.prepare()
})

/** Runs the service until the manager has been told that it runs. */
async function start(): Promise<{ manager: Manager; ended: Promise<number> }> {
  const manager = new Manager()
  const service = await WindowsService.connect(manager.calls)
  const ended = service.run((surroundings) => runAgent({ configFile: stage.config }, surroundings))
  await waitFor('the service says that it runs', () => manager.told.at(-1)?.state === State.running)
  return { manager, ended }
}

const engineOf = () => readEngineFile(path.join(stage.data, 'engine.json'))?.pid ?? 0

const inOrder = [State.startPending, State.running, State.stopPending, State.stopped]

test('a plain stop ends the agent alone: the engine goes on, and the next agent adopts it', async () => {
  const { manager, ended } = await start()
  assert.is(manager.told.at(-1)?.accepted, accepts.stop | accepts.preshutdown)
  const engine = engineOf()
  assert.is(manager.control(Control.stop), 0)
  assert.is(manager.told.at(-1)?.state, State.stopPending, 'it says so at once')
  assert.is(await ended, 0)
  assert.equal(manager.states(), inOrder)
  assert.is(manager.told.at(-1)?.exitCode, 0)
  assert.ok(isAlive(engine))
  assert.is(engineOf(), engine)
})

test('before a shutdown the engine is stopped as well, after a checkpoint', async () => {
  const { manager, ended } = await start()
  const engine = engineOf()
  assert.ok(isAlive(engine))
  await stage.sql('CREATE TABLE trades (trade_id BIGINT PRIMARY KEY)', 'INSERT INTO trades VALUES (1)')
  assert.is(manager.control(Control.preshutdown), 0)
  assert.is(await ended, 0)
  assert.equal(manager.states(), inOrder)
  assert.not.ok(isAlive(engine))
  const log = fs.readFileSync(path.join(stage.data, 'agent.log'), 'utf8')
  assert.match(log, 'Windows shuts down')
  assert.match(log, 'stopping the agent and the engine')
})

test('it answers what it does not know, and a question how it is, without harm', async () => {
  const { manager, ended } = await start()
  const before = manager.told.length
  assert.is(manager.control(Control.interrogate), 0)
  assert.is(manager.control(200), 120)
  assert.is(manager.told.length, before)
  manager.control(Control.stop)
  assert.is(await ended, 0)
})

test('a configuration with mistakes is told as 78; another failure is not told at all, so that the manager starts it again', async () => {
  const whole = fs.readFileSync(stage.config, 'utf8')
  const ending = async (): Promise<[number, Told | undefined]> => {
    const manager = new Manager()
    const service = await WindowsService.connect(manager.calls)
    return [await service.run((surroundings) => runAgent({ configFile: stage.config }, surroundings)), manager.told.at(-1)]
  }
  fs.writeFileSync(stage.config, `${whole}mistake: 1\n`)
  const [code, told] = await ending()
  assert.is(code, 78)
  assert.equal([told?.state, told?.exitCode, told?.ownExitCode], [State.stopped, 1066, 78])
  fs.writeFileSync(stage.config, whole)
  const other = await stage.run()
  const [locked, last] = await ending()
  assert.is(locked, 75)
  assert.is.not(last?.state, State.stopped)
  await other.kill()
})

test.run()
