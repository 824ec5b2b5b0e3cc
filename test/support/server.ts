/** What the real servers of the tests have in common: a port, a directory, start, kill, start again on the same data. */

import fs from 'node:fs'
import net from 'node:net'
import { freePort } from './ports.ts'
import type { Child } from './process.ts'
import { temporaryDirectory } from './temp.ts'
import { waitUntil } from './wait.ts'

export interface TestServer {
  readonly host: '127.0.0.1'
  readonly port: number
  readonly url: string
  /** Where its data lies; stays over kill, stop and start. */
  readonly directory: string
  readonly pid: number
  readonly running: boolean
  /** What the running (or last) process printed. */
  output(): string
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>
  /** SIGTERM (an orderly stop), and waits for the end; SIGKILL after 30 s. */
  stop(): Promise<void>
  /** Starts it again on the same directory and port; a no-op while it runs. */
  start(): Promise<void>
  /** SIGSTOP and SIGCONT: the server is there but does not answer. */
  pause(): void
  resume(): void
}

export interface ServerDefinition {
  name: string
  scheme: string
  directory: string | undefined
  port: number | undefined
  /** Starts the program; called again for each start. */
  spawn(port: number, directory: string): Child
  /** True when it answers. */
  ready(port: number): Promise<boolean>
  /** How long a start may take, ms. */
  deadline: number
}

/** Starts a server and waits until it answers. A port that was asked for is kept; a free one is chosen anew when someone else takes it first. */
export async function startServer(definition: ServerDefinition): Promise<TestServer> {
  const directory = definition.directory ?? temporaryDirectory(definition.name)
  fs.mkdirSync(directory, { recursive: true })
  const attempts = definition.port === undefined ? 3 : 1
  for (let attempt = 1; ; attempt++) {
    const port = definition.port ?? (await freePort())
    try {
      return await startOnPort(definition, port, directory)
    } catch (error) {
      if (attempt === attempts) throw error
    }
  }
}

async function startOnPort(definition: ServerDefinition, port: number, directory: string): Promise<TestServer> {
  let child: Child
  async function start(): Promise<void> {
    child = definition.spawn(port, directory)
    const started = child
    let failed: unknown
    started.exited.catch((error: unknown) => {
      failed = error
    })
    const up = await waitUntil(
      async () => failed !== undefined || started.exit !== null || (await definition.ready(port).catch(() => false)),
      { deadline: definition.deadline },
    )
    if (up && failed === undefined && started.exit === null) return
    if (failed !== undefined) throw new Error(`${definition.name} cannot be started: ${String(failed)}`)
    const why = started.exit ? `ended (${JSON.stringify(started.exit)})` : `did not answer within ${definition.deadline} ms`
    await started.kill()
    throw new Error(`${definition.name} on port ${port} ${why}; it printed:\n${started.output()}`)
  }
  await start()
  return {
    host: '127.0.0.1',
    port,
    url: `${definition.scheme}://127.0.0.1:${port}`,
    directory,
    get pid() {
      return child.pid
    },
    get running() {
      return child.exit === null
    },
    output: () => child.output(),
    async kill() {
      await child.kill('SIGKILL')
    },
    async stop() {
      const timer = setTimeout(() => child.process.kill('SIGKILL'), 30_000)
      await child.kill('SIGTERM')
      clearTimeout(timer)
    },
    async start() {
      if (child.exit !== null) await start()
    },
    pause: () => void child.process.kill('SIGSTOP'),
    resume: () => void child.process.kill('SIGCONT'),
  }
}

/** Sends `request` over TCP and resolves with the first bytes of the answer; rejects after 2 s. For readiness checks. */
export function askOverTcp(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: '127.0.0.1' })
    socket.setTimeout(2_000, () => socket.destroy(new Error('no answer')))
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed')))
    socket.once('data', (data) => {
      resolve(data.toString('latin1'))
      socket.destroy()
    })
    socket.write(request)
  })
}
