/** `engine.auth` and `engine.tls`: who may connect, and how; and what only these keys together, or with the address, can get wrong. */

import { z } from 'zod'
import { agentUser } from '../control-protocol.ts'
import { isLoopback, Mistake, secret, written } from '../values.ts'
import { looksLikeVerifier, parseVerifier } from '../verifier.ts'
import type { Core } from './schema.ts'

/** Bytes of a name, as in Postgres. */
const longestName = 63

const userName = written('a name', 'write a name, such as trader', (text) => {
  if (text === agentUser) return new Mistake('this name is the agent’s own', 'choose another one')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (text === '' || Buffer.byteLength(text) > longestName || /[\0-\x1f\x7f]/.test(text))
    return new Mistake('not a name for a user', `use 1 to ${longestName} bytes, without control characters`)
  return text
})

const password = secret().check((ctx) => {
  if (!looksLikeVerifier(ctx.value) || parseVerifier(ctx.value) !== undefined) return
  const hint = 'copy the whole line that `daemonguard password` prints'
  ctx.issues.push({ code: 'custom', message: 'not a whole SCRAM-SHA-256 verifier', input: ctx.value, params: { hint } })
})

const user = z.strictObject({
  name: userName,
  password: password.optional(),
  peer: z.array(z.string().min(1)).min(1).optional(),
  readonly: z.boolean().default(false),
})

/** The keys of `engine.auth`. `socket` is that of `method` when it is left out. */
export const authShape = {
  method: z.enum(['trust', 'scram-sha-256']).default('trust'),
  socket: z.enum(['trust', 'scram-sha-256', 'peer']).optional(),
  users: z.array(user).default([]),
}

type Path = readonly (string | number)[]
type Report = (path: Path, message: string, hint: string) => void

/** Problems of `engine.auth`, `engine.tls` and `engine.listen` together. */
export function accessProblems(engine: Core['engine'], platform: NodeJS.Platform, report: Report): void {
  const { auth, listen, tls, socket_dir } = engine
  const at = (...path: Path): Path => ['engine', ...path]
  const onSocket = auth.socket ?? auth.method
  if (!isLoopback(listen.host)) {
    if (auth.method === 'trust')
      report(
        at('listen'),
        'auth method trust asks for no password: it is accepted on loopback only',
        'write 127.0.0.1 as its host, or set engine.auth (scram-sha-256 and users) and engine.tls; or use a tunnel: ssh -L 5433:127.0.0.1:5433 HOST',
      )
    else if (tls === null)
      report(
        at('listen'),
        'other machines can connect here, and nothing would be encrypted',
        'set engine.tls: { cert: …, key: … }, or write 127.0.0.1 as its host',
      )
  }
  if (auth.socket !== undefined && socket_dir === null)
    report(at('auth', 'socket'), 'there is no Unix socket: engine.socket_dir is null', 'remove one of the two keys')
  if (onSocket === 'peer' && platform !== 'linux') report(at('auth', 'socket'), 'peer is available on Linux only', 'write scram-sha-256')
  const [byPassword, byPeer] = [[auth.method, onSocket].includes('scram-sha-256'), onSocket === 'peer']
  if (auth.users.length === 0 && (byPassword || byPeer)) {
    const key = auth.method === 'trust' ? 'socket' : 'method'
    report(
      at('auth', key),
      'nobody could log in: there are no users',
      'add users: [{ name: trader, password: file:/etc/daemonguard/trader }]',
    )
  }
  const names = new Set<string>()
  for (const [index, { name, password, peer }] of auth.users.entries()) {
    const here = (key: string) => at('auth', 'users', index, key)
    if (names.has(name)) report(here('name'), 'a user of this name is already there', 'keep one of the two')
    names.add(name)
    if (password !== undefined && !byPassword)
      report(here('password'), 'no password is asked for here', 'write method: scram-sha-256, or remove the password')
    if (password === undefined && byPassword && !byPeer && auth.method !== 'trust' && onSocket !== 'trust')
      report(here('name'), 'this user has no password and could not log in', 'add password: file:/etc/daemonguard/…')
    if (peer !== undefined && !byPeer) report(here('peer'), 'system users are not looked at here', 'write socket: peer, or remove the key')
  }
}
