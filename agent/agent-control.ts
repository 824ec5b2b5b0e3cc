/**
 * The agent's control socket: how a command line that acts reaches the running agent. Newline-delimited JSON over a Unix socket
 * of mode 0600 in the data directory (mode 0700): whoever may open it may act.
 *   request   {"id": 1, "method": "scan", "params": {…}}
 *   answer    {"id": 1, "result": …}  or  {"id": 1, "error": {"message", "where", "hint", "exitCode"}}
 * Requests of one connection run side by side; a connection that ends aborts what it asked for.
 */

import type net from 'node:net'
import { createInterface } from 'node:readline'
import { connectTo, createEndpoint, listenAt, longestPath } from './endpoint.ts'
import { DaemonGuardError, type ExitCode, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import { toJson } from './status-report.ts'

/** What may be asked; each resolves with JSON. `signal` aborts when the asker has gone. */
export type Handlers = Record<string, (params: Record<string, unknown>, signal: AbortSignal) => Promise<unknown>>

export interface AgentControl {
  /** Ends every connection after its answers are out. Safe twice. */
  stop(): Promise<void>
}

/** Serves `handlers` on the socket `file`. The caller holds the agent's lock, so a socket that lies there is a dead agent's. */
export async function serveAgentControl(file: string, handlers: Handlers, log: Log): Promise<AgentControl> {
  if (Buffer.byteLength(file) > longestPath) {
    throw new DaemonGuardError("the path of the agent's control socket is too long for the system", {
      where: file,
      hint: 'set agent.data_dir to a shorter path',
    })
  }
  const connections = new Set<net.Socket>()
  const server = createEndpoint((socket) => {
    connections.add(socket)
    const gone = new AbortController()
    socket.on('close', () => {
      connections.delete(socket)
      gone.abort(new Error('the asker has gone'))
    })
    socket.on('error', (error) => log.debug(`agent control: ${error.message}`))
    readLines(socket, (line) => {
      void answer(line, handlers, gone.signal).then((reply) => {
        if (!socket.destroyed) socket.write(`${reply}\n`)
      })
    })
  })
  try {
    await listenAt(server, file, 'AGENT:SOCKET')
  } catch (error) {
    throw new DaemonGuardError(`the agent cannot serve its control socket: ${messageOf(error)}`, { where: file, cause: error })
  }
  server.on('error', (error) => log.warn(`agent control: ${error.message}`))
  return {
    async stop() {
      if (!server.listening) return
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of connections) socket.end()
      const force = setTimeout(() => {
        for (const socket of connections) socket.destroy()
      }, 500)
      await closed
      clearTimeout(force)
    },
  }
}

async function answer(line: string, handlers: Handlers, signal: AbortSignal): Promise<string> {
  let id: unknown = null
  try {
    const request = JSON.parse(line)
    id = request.id
    const handler = Object.hasOwn(handlers, request.method) ? handlers[request.method] : undefined
    if (handler === undefined)
      throw new DaemonGuardError(`the agent does not know "${request.method}"`, { hint: 'is it of another version? daemonguard status' })
    return toJson({ id, result: (await handler(request.params ?? {}, signal)) ?? null })
  } catch (error) {
    const { where, hint, exitCode } = error instanceof DaemonGuardError ? error : { where: undefined, hint: undefined, exitCode: undefined }
    return toJson({ id, error: { message: messageOf(error), where, hint, exitCode } })
  }
}

/** No agent serves the data directory. */
export class NoAgent extends DaemonGuardError {}

/**
 * Asks the running agent. Rejects with NoAgent when none serves there, else with the agent's own error.
 * Waits as long as the work takes unless `timeoutMs` is given; the work is aborted when this process ends.
 */
export function askAgent<Result>(
  file: string,
  method: string,
  params: Record<string, unknown> = {},
  options: { timeoutMs?: number } = {},
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const socket = connectTo(file)
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(
            () => fail(new DaemonGuardError(`the agent did not answer within ${options.timeoutMs} ms`, { where: file })),
            options.timeoutMs,
          )
    const end = () => {
      clearTimeout(timer)
      socket.destroy()
    }
    const fail = (error: Error) => {
      end()
      reject(error)
    }
    let connected = false
    socket.on('connect', () => {
      connected = true
      socket.write(`${JSON.stringify({ id: 1, method, params })}\n`)
    })
    socket.on('error', (error) => {
      fail(connected ? new DaemonGuardError(`the agent's connection failed: ${error.message}`, { where: file }) : noAgent(file, error))
    })
    socket.on('close', () =>
      fail(
        connected ? new DaemonGuardError('the agent ended before it answered', { where: file, hint: 'daemonguard status' }) : noAgent(file),
      ),
    )
    readLines(socket, (line) => {
      end()
      const reply = JSON.parse(line) as { result?: Result; error?: { message: string; where?: string; hint?: string; exitCode?: ExitCode } }
      if (reply.error === undefined) resolve(reply.result as Result)
      else reject(new DaemonGuardError(reply.error.message, reply.error))
    })
  })
}

function noAgent(file: string, cause?: NodeJS.ErrnoException): DaemonGuardError {
  // EPERM is Windows' word for it.
  if (cause?.code === 'EACCES' || cause?.code === 'EPERM')
    return new DaemonGuardError('this user may not talk to the agent', {
      where: file,
      hint: process.platform === 'win32' ? 'run the command as administrator' : 'run the command as the user of the agent (root?)',
    })
  return new NoAgent('no agent runs on this data directory', { where: file, hint: 'daemonguard run', exitCode: 3 })
}

function readLines(socket: net.Socket, onLine: (line: string) => void): void {
  const lines = createInterface({ input: socket })
  lines.on('line', onLine)
  // readline repeats the socket's error, which has a listener of its own.
  lines.on('error', () => {})
}
