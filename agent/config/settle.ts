/** From parsed values to a Config: absolute paths, defaults that depend on the machine, and what only several keys together can get wrong. */

import fs from 'node:fs'
import path from 'node:path'
import { catalogName } from '../paths.ts'
import { accessProblems } from './access.ts'
import type { Document } from './document.ts'
import type { Environment } from './expand.ts'
import { type KeyPath, keyName, type Problem } from './problem.ts'
import type { Core } from './schema.ts'
import { valueAt } from './validate.ts'

export type Settled = {
  agent: Core['agent']
  engine: Omit<Core['engine'], 'socket_dir' | 'auth'> & { socket_dir: string | null; auth: Required<Core['engine']['auth']> }
}

/** Bytes of a Unix socket's path, its final NUL not counted (sockaddr_un: 108 on Linux, 104 on macOS). */
const socketPathLimit = process.platform === 'darwin' ? 103 : 107

/** What a database cannot be called: DuckDB's own catalogs, and schemas that each database has or is shown to have. */
const takenNames = ['memory', 'temp', 'system', 'main', 'daemonguard', 'pg_catalog', 'information_schema']

/** Directories under data_dir that belong to something else than the journal. */
const taken = ['cursors', 'snapshots', 'quarantine', 'dead-letter', 'incidents']

/**
 * Relative paths: data_dir, schema, socket_dir and tls against the config's directory; database and journal_dir against data_dir.
 * The socket lies in systemd's runtime directory when this is a service that has one, else in data_dir; Windows has none.
 */
export function settle(core: Core, document: Document, env: Environment, platform: NodeJS.Platform): Settled {
  const home = path.dirname(document.file)
  const data = path.resolve(home, core.agent.data_dir)
  const { socket_dir, schema, auth, tls } = core.engine
  return {
    agent: { ...core.agent, data_dir: data },
    engine: {
      ...core.engine,
      database: path.resolve(data, core.engine.database),
      journal_dir: path.resolve(data, core.engine.journal_dir),
      auth: { ...auth, socket: auth.socket ?? auth.method },
      tls: tls === null ? null : { cert: path.resolve(home, tls.cert), key: path.resolve(home, tls.key) },
      schema: schema === null ? null : path.resolve(home, schema),
      socket_dir:
        platform === 'win32' || socket_dir === null
          ? null
          : socket_dir === undefined
            ? defaultSocketDirectory(data, env)
            : path.resolve(home, socket_dir),
    },
  }
}

/**
 * INVOCATION_ID alone does not tell a service from a terminal (GNOME's terminals inherit one): the runtime directory of the
 * unit must be there as well.
 */
function defaultSocketDirectory(data: string, env: Environment): string {
  if (!env.INVOCATION_ID) return data
  const runtime = env.RUNTIME_DIRECTORY?.split(':')[0]
  if (runtime) return runtime
  return fs.existsSync('/run/daemonguard') ? '/run/daemonguard' : data
}

/** Problems of several keys together. A key that is `faulty` is left out: what stands in for it is not the operator's. */
export function combinationProblems(
  config: Settled,
  faulty: ReadonlySet<string>,
  core: Core,
  document: Document,
  platform: NodeJS.Platform,
): Problem[] {
  const problems: Problem[] = []
  const sound = (...paths: KeyPath[]) => !paths.some((keyPath) => faulty.has(keyName(keyPath)))
  const report = (keyPath: KeyPath, message: string, hint: string) => {
    const place = document.locate(keyPath)
    problems.push({ line: place?.line ?? null, column: place?.column ?? null, key: keyName(keyPath), message, hint })
  }
  const { agent, engine } = config

  if (
    sound(['agent', 'listen'], ['engine', 'listen']) &&
    agent.listen.port !== 0 &&
    agent.listen.port === engine.listen.port &&
    agent.listen.host === engine.listen.host
  ) {
    const written = valueAt(document.value, ['engine', 'listen']) === undefined ? 'agent' : 'engine'
    report([written, 'listen'], 'agent.listen and engine.listen are the same address', 'give them different ports, such as 7788 and 5433')
  }
  if (sound(['agent', 'data_dir'], ['engine', 'journal_dir'])) {
    const within = path.relative(agent.data_dir, engine.journal_dir).split(path.sep)[0]!
    const above =
      !path.relative(engine.journal_dir, agent.data_dir).startsWith('..') &&
      path.parse(engine.journal_dir).root === path.parse(agent.data_dir).root
    if (above || taken.includes(within))
      report(['engine', 'journal_dir'], 'the journal needs a directory of its own', 'write journal, or a path on another disk')
  }
  const name = catalogName(engine.database)
  if (sound(['engine', 'database']) && takenNames.includes(name.toLowerCase()))
    report(
      ['engine', 'database'],
      `the name ${name} has a meaning of its own beside the database`,
      'name the file otherwise: trade_data.duckdb',
    )
  if (sound(['engine', 'auth'], ['engine', 'listen'], ['engine', 'tls'])) accessProblems(core.engine, platform, report)
  if (platform === 'win32') {
    if (typeof core.engine.socket_dir === 'string')
      report(['engine', 'socket_dir'], 'Windows has no Unix sockets for this', 'remove the key')
    return problems
  }
  const fits = (file: string) => Buffer.byteLength(file) <= socketPathLimit
  const tooLong = (what: string) => `the path of ${what} would be longer than the ${socketPathLimit} bytes that Unix sockets allow`
  if (sound(['agent', 'data_dir']) && !fits(path.join(agent.data_dir, 'control.sock'))) {
    report(['agent', 'data_dir'], tooLong('the control socket'), 'choose a shorter data_dir')
  } else if (engine.socket_dir !== null && sound(['agent', 'data_dir'], ['engine', 'socket_dir'], ['engine', 'listen'])) {
    const written = core.engine.socket_dir !== undefined
    // Port 0 may become any port of five digits.
    const port = engine.listen.port === 0 ? 65535 : engine.listen.port
    if (!fits(path.join(engine.socket_dir, `.s.PGSQL.${port}`))) {
      report(
        written ? ['engine', 'socket_dir'] : ['agent', 'data_dir'],
        tooLong('the Postgres socket'),
        `choose a shorter ${written ? 'socket_dir' : 'data_dir'}, or set engine.socket_dir: null for none`,
      )
    }
  }
  return problems
}
