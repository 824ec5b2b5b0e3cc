/** A real redis-server on a free port, with a directory of its own. */

import { spawnChild } from './process.ts'
import { askOverTcp, startServer, type TestServer } from './server.ts'

export interface RedisOptions {
  port?: number
  /** Default: a new temporary one. */
  directory?: string
  /** AOF with an fsync per write: what was acknowledged survives `kill`. Without it nothing is persisted. */
  appendOnly?: boolean
  password?: string
  /** More arguments of redis-server, e.g. ['--maxmemory', '10mb']. */
  args?: readonly string[]
}

/** Starts a redis-server; `url` has the password in it when there is one. */
export async function startRedis(options: RedisOptions = {}): Promise<TestServer> {
  const server = await startServer({
    name: 'redis',
    scheme: 'redis',
    port: options.port,
    directory: options.directory,
    deadline: 20_000,
    spawn: (port, directory) =>
      spawnChild('redis-server', [
        ...['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', '--daemonize', 'no'],
        ...['--appendonly', options.appendOnly ? 'yes' : 'no', '--appendfsync', 'always'],
        ...(options.password ? ['--requirepass', options.password] : []),
        ...(options.args ?? []),
      ]),
    async ready(port) {
      const answer = await askOverTcp(port, 'PING\r\n')
      return answer.startsWith('+PONG') || answer.startsWith('-NOAUTH')
    },
  })
  if (!options.password) return server
  const url = `redis://:${encodeURIComponent(options.password)}@127.0.0.1:${server.port}`
  return Object.defineProperty(server, 'url', { value: url })
}
