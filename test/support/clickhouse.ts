/**
 * A real clickhouse-server (Debian's 18.16: an old server on a real wire) with a minimal configuration, directories and ports of
 * its own. For the semantics of a modern ClickHouse see chdb.ts.
 */

import fs from 'node:fs'
import path from 'node:path'
import { freePort } from './ports.ts'
import { spawnChild } from './process.ts'
import { askOverTcp, startServer, type TestServer } from './server.ts'

export interface ClickHouseOptions {
  port?: number
  /** Default: a new temporary one. */
  directory?: string
  /** Of user `default`; none when absent. */
  password?: string
}

/** Starts a clickhouse-server that speaks HTTP on `port`; user `default`, database `default`. */
export async function startClickHouse(options: ClickHouseOptions = {}): Promise<TestServer> {
  const tcpPort = await freePort()
  return startServer({
    name: 'clickhouse',
    scheme: 'http',
    port: options.port,
    directory: options.directory,
    deadline: 60_000,
    spawn(port, directory) {
      const config = writeConfiguration(directory, port, tcpPort, options.password ?? '')
      return spawnChild('clickhouse-server', [`--config-file=${config}`], { cwd: directory })
    },
    async ready(port) {
      return (await askOverTcp(port, 'GET /ping HTTP/1.0\r\n\r\n')).includes(' 200 ')
    },
  })
}

function writeConfiguration(directory: string, httpPort: number, tcpPort: number, password: string): string {
  const config = path.join(directory, 'config.xml')
  const escaped = password.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  fs.writeFileSync(
    path.join(directory, 'users.xml'),
    `<yandex>
  <profiles><default><max_memory_usage>1000000000</max_memory_usage></default></profiles>
  <users><default><password>${escaped}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
  <quotas><default></default></quotas>
</yandex>
`,
  )
  fs.writeFileSync(
    config,
    `<yandex>
  <logger><level>warning</level><console>true</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>${httpPort}</http_port>
  <tcp_port>${tcpPort}</tcp_port>
  <path>${directory}/data/</path>
  <tmp_path>${directory}/tmp/</tmp_path>
  <user_files_path>${directory}/user_files/</user_files_path>
  <format_schema_path>${directory}/format_schemas/</format_schema_path>
  <users_config>${directory}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>67108864</uncompressed_cache_size>
  <mlock_executable>false</mlock_executable>
</yandex>
`,
  )
  return config
}
