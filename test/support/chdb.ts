/**
 * The modern ClickHouse engine (npm `chdb`, fetched by prerequisites.ts into test/.tools) behind ClickHouse's HTTP protocol, in a
 * process of its own that can be killed and started again on the same data. One session: queries run one after the other.
 */

import path from 'node:path'
import { spawnChild } from './process.ts'
import { askOverTcp, startServer, type TestServer } from './server.ts'

export interface ChdbOptions {
  port?: number
  /** Default: a new temporary one. */
  directory?: string
}

const program = path.join(import.meta.dirname, 'chdb-server.mjs')

/** Starts the engine; `url` is what @clickhouse/client wants. */
export function startChdb(options: ChdbOptions = {}): Promise<TestServer> {
  return startServer({
    name: 'chdb',
    scheme: 'http',
    port: options.port,
    directory: options.directory,
    deadline: 60_000,
    spawn: (port, directory) => spawnChild(process.execPath, [program, String(port), path.join(directory, 'data')]),
    async ready(port) {
      return (await askOverTcp(port, 'GET /ping HTTP/1.0\r\n\r\n')).includes(' 200 ')
    },
  })
}
