/** PostgreSQL as Debian packages it, with its default settings (fsync, synchronous_commit on), on a fresh cluster on the same disk. */

import fs from 'node:fs'
import path from 'node:path'
import { freePort } from '../../support/ports.ts'
import { postgresPrograms } from '../../support/prerequisites.ts'
import { type Child, runChild, spawnChild } from '../../support/process.ts'
import { waitFor } from '../../support/wait.ts'
import { psql, type WirePeer } from '../clients.ts'
import { firstLine } from '../machine.ts'
import { postgresSeries, schema } from '../trades.ts'

/** What the installed server calls itself, or undefined where there is none. */
export function postgresVersion(): string | undefined {
  const programs = postgresPrograms()
  return programs === null ? undefined : firstLine(path.join(programs, 'postgres'), ['--version'])
}

/** Why PostgreSQL cannot be measured on data below `directory`, or undefined when it can. */
export function postgresObstacle(directory: string): string | undefined {
  if (postgresPrograms() === null) return 'it is not installed (apt-get install postgresql)'
  if (process.getuid?.() !== 0) return undefined
  for (let parent = directory; parent !== path.dirname(parent); parent = path.dirname(parent)) {
    if ((fs.statSync(parent).mode & 0o001) === 0)
      return `it does not run as root, and no other user may pass through ${parent} (set TMPDIR)`
  }
  return undefined
}

export class Postgres implements WirePeer {
  readonly name = 'PostgreSQL'
  readonly user = 'postgres'
  readonly database = 'postgres'
  readonly socketDirectory: string
  readonly port: number
  #server: Child

  private constructor(socketDirectory: string, port: number, server: Child) {
    this.socketDirectory = socketDirectory
    this.port = port
    this.#server = server
  }

  /** Creates a cluster under `directory`, starts it, and gives it the schema. */
  static async start(directory: string): Promise<Postgres> {
    const programs = postgresPrograms()
    if (programs === null) throw new Error('PostgreSQL is not installed')
    fs.mkdirSync(directory, { recursive: true })
    const data = path.join(directory, 'cluster')
    // It refuses to run as root.
    const as = process.getuid?.() === 0 ? ordinaryUser() : undefined
    if (as !== undefined) fs.chownSync(directory, as.uid, as.gid)
    const prefix =
      as === undefined
        ? []
        : ['setpriv', '--reuid', String(as.uid), '--regid', String(as.gid), '--clear-groups', '--pdeathsig', 'KILL', '--']
    const command = (name: string, ...args: string[]) => [...prefix, path.join(programs, name), ...args]
    const [first, ...rest] = command('initdb', '-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-instructions')
    const made = await runChild(first as string, rest, { cwd: directory })
    if (made.code !== 0) throw new Error(`initdb failed:\n${made.stdout}${made.stderr}`)
    const port = await freePort()
    const settings = [`port=${port}`, `unix_socket_directories=${directory}`, 'listen_addresses='].flatMap((setting) => ['-c', setting])
    const [program, ...args] = command('postgres', '-D', data, ...settings)
    const server = spawnChild(program as string, args, { cwd: directory })
    const postgres = new Postgres(directory, port, server)
    await waitFor('PostgreSQL answers', async () => server.exit !== null || (await psql(postgres, ['SELECT 1'])) !== '', {
      deadline: 60_000,
    })
    if (server.exit !== null) throw new Error(`PostgreSQL ended:\n${server.output()}`)
    await psql(postgres, schema(postgresSeries))
    return postgres
  }

  /** One more database, with the schema and empty tables. */
  async createDatabase(name: string): Promise<WirePeer> {
    await psql(this, [`CREATE DATABASE ${name}`])
    const { socketDirectory, port, user } = this
    const peer = { name: this.name, socketDirectory, port, user, database: name }
    await psql(peer, schema(postgresSeries))
    return peer
  }

  /** What its durability depends on, as it runs. */
  async settings(): Promise<Record<string, string>> {
    const names = ['fsync', 'synchronous_commit', 'wal_sync_method', 'full_page_writes', 'shared_buffers', 'max_wal_size']
    const values = (
      await psql(
        this,
        names.map((name) => `SHOW ${name}`),
      )
    )
      .trim()
      .split('\n')
    return Object.fromEntries(names.map((name, i) => [name, values[i] as string]))
  }

  /** An orderly stop ("fast": clients are cut off). */
  async stop(): Promise<void> {
    await this.#server.kill('SIGINT')
  }
}

/** The user that the package made, else nobody. */
function ordinaryUser(): { uid: number; gid: number } {
  const users = fs.readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const fields = users.find((line) => line.startsWith(`${name}:`))?.split(':')
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) }
  }
  throw new Error('PostgreSQL cannot run as root, and there is no user postgres or nobody')
}
