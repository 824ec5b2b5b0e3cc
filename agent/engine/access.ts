/**
 * Who may come in, by `engine.auth`: what pg_hba.conf and the roles are to Postgres. Names cannot be probed: where a password is asked for, a
 * name that nobody has goes through the same exchange, with a salt of its own that stays the same, and fails at its end.
 */

import { createHmac, randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { type Clock, systemClock } from '../clock.ts'
import { agentUser } from '../control-protocol.ts'
import type { Log } from '../log.ts'
import { defaultIterations, impossibleVerifier, makeVerifier, parseVerifier, saltLength, type Verifier } from '../verifier.ts'
import { LoginThrottle } from './login-throttle.ts'
import type { Challenge, Gatekeeper, Role, Visitor } from './pgwire/login.ts'
import { SqlError } from './sql-error.ts'

/** A stranger's name may be as long as a startup packet. */
const longestNameLogged = 100

export interface AuthConfig {
  /** Over TCP. */
  readonly method: 'trust' | 'scram-sha-256'
  /** Over the Unix socket. */
  readonly socket: 'trust' | 'scram-sha-256' | 'peer'
  /** None (with trust): whoever comes, under any name. */
  readonly users: readonly {
    readonly name: string
    /** Plain, or Postgres' stored form of it. */
    readonly password?: string | undefined
    /** System users that may be this one over the Unix socket; default: the one of the same name. */
    readonly peer?: readonly string[] | undefined
    readonly readonly: boolean
  }[]
}

export interface AccessOptions {
  readonly auth: AuthConfig
  /** Salts are made of it: it stays the same over restarts, and differs between databases. */
  readonly databaseId: string
  readonly log: Log
  readonly clock?: Clock
}

interface User {
  readonly role: Role
  readonly verifier: Verifier | undefined
  readonly systemUsers: readonly string[]
}

export class Access implements Gatekeeper {
  /** What the agent logs in with, as `agentUser`: new at each start, told over the control socket only. */
  readonly agentPassword = randomBytes(24).toString('base64url')
  #auth: AuthConfig
  #users: ReadonlyMap<string, User> = new Map()
  #agent: User | undefined
  #databaseId: string
  #log: Log
  #throttle: LoginThrottle

  private constructor({ auth, databaseId, log, clock = systemClock }: AccessOptions) {
    this.#auth = auth
    this.#databaseId = databaseId
    this.#log = log
    this.#throttle = new LoginThrottle(clock)
  }

  static async create(options: AccessOptions): Promise<Access> {
    const access = new Access(options)
    access.#users = await access.#usersOf(options.auth)
    access.#agent = await access.#user({ name: agentUser, password: access.agentPassword, readonly: false })
    return access
  }

  /** Those whom engine.auth names. */
  get users(): AuthConfig['users'] {
    return this.#auth.users
  }

  /** Takes up other users. False, and nothing changes, when the methods are others: what listens where was chosen with them. */
  async change(auth: AuthConfig): Promise<boolean> {
    if (auth.method !== this.#auth.method || auth.socket !== this.#auth.socket) return false
    if (isDeepStrictEqual(auth.users, this.#auth.users)) return true
    this.#users = await this.#usersOf(auth)
    this.#auth = auth
    this.#log.info({ users: [...this.#users.keys()] }, 'the users of engine.auth have changed')
    return true
  }

  async ask(visitor: Visitor): Promise<{ role: Role } | { challenge: Challenge }> {
    const { user: name, from } = visitor
    if (name === agentUser) return { challenge: this.#challenge(visitor, this.#agent) }
    if (from === 'network' && !visitor.encrypted) {
      throw this.#refusal(visitor, 'not encrypted', 'connections from other machines must be encrypted', 'sslmode=require, or verify-full')
    }
    const user = this.#users.get(name)
    switch (from === 'socket' ? this.#auth.socket : this.#auth.method) {
      case 'trust':
        if (this.#users.size === 0) return { role: { name, readonly: false } }
        if (user === undefined)
          throw this.#refusal(visitor, 'no such user', `role "${name}" does not exist`, 'engine.auth.users in config.yaml')
        return user
      case 'peer': {
        const systemUser = await visitor.systemUser()
        if (user !== undefined && systemUser !== undefined && user.systemUsers.includes(systemUser)) return user
        throw this.#refusal(
          visitor,
          `the system user is ${systemUser ?? 'unknown'}`,
          `peer authentication failed for user "${name}"`,
          'connect as the system user of this name, or see engine.auth.users: peer in config.yaml',
        )
      }
      case 'scram-sha-256':
        return { challenge: this.#challenge(visitor, user) }
    }
  }

  async #usersOf({ users }: AuthConfig): Promise<ReadonlyMap<string, User>> {
    const made = await Promise.all(users.map(async (user) => [user.name, await this.#user(user)] as const))
    return new Map(made)
  }

  async #user({ name, password, peer, readonly }: AuthConfig['users'][number]): Promise<User> {
    const made = () => makeVerifier(password as string, { salt: this.#saltOf(name) })
    const verifier = password === undefined ? undefined : (parseVerifier(password) ?? (await made()))
    return { role: { name, readonly }, verifier, systemUsers: peer ?? [name] }
  }

  #challenge(visitor: Visitor, user: User | undefined): Challenge {
    const pair = JSON.stringify([visitor.address, visitor.user])
    return {
      verifier: user?.verifier ?? this.#impossible(visitor.user),
      pause: (signal) => this.#throttle.pass(pair, signal),
      granted: () => {
        this.#throttle.succeeded(pair)
        return (user as User).role
      },
      denied: (reason) => {
        this.#throttle.failed(pair)
        this.#report(visitor, reason)
        return new SqlError('28P01', `password authentication failed for user "${visitor.user}"`, { severity: 'FATAL' })
      },
    }
  }

  /** As one of a user who is there: with the iterations of one of them, always the same one for a name. */
  #impossible(name: string): Verifier {
    const counts = [...this.#users.values()].flatMap(({ verifier }) => (verifier === undefined ? [] : [verifier.iterations]))
    const pick = this.#digest('iterations', name).readUInt32BE(0) % Math.max(1, counts.length)
    return impossibleVerifier(this.#saltOf(name), counts[pick] ?? defaultIterations)
  }

  #saltOf(name: string): Buffer {
    return this.#digest('salt', name).subarray(0, saltLength)
  }

  #digest(purpose: string, name: string): Buffer {
    return createHmac('sha256', this.#databaseId).update(`${purpose}\0${name}`).digest()
  }

  #refusal(visitor: Visitor, reason: string, message: string, hint: string): SqlError {
    this.#report(visitor, reason)
    return new SqlError('28000', message, { severity: 'FATAL', hint })
  }

  #report({ user, address }: Visitor, reason: string): void {
    this.#log.warn({ user: user.slice(0, longestNameLogged), address, reason }, 'a login was refused')
  }
}
