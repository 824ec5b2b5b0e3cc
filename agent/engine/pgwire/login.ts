/** How a client proves who it is, between its startup packet and AuthenticationOk. Who has to prove what is the gatekeeper's to say. */

import type { Verifier } from '../../verifier.ts'
import { protocolViolation, type SqlError } from '../sql-error.ts'
import type { MessageReader } from './messages.ts'
import type { Outbox } from './outbox.ts'
import * as responses from './responses.ts'
import { mechanisms, ScramExchange } from './scram.ts'

/** Who knocks. */
export interface Visitor {
  /** The name it gives. */
  readonly user: string
  /** Over the Unix socket, or over TCP from this machine or from another one. */
  readonly from: 'socket' | 'loopback' | 'network'
  /** Its IP address; `local` for the Unix socket. */
  readonly address: string
  readonly encrypted: boolean
  /** The system user at the other end of the Unix socket; undefined when nobody can tell. */
  systemUser(): Promise<string | undefined>
}

/** Who a client is once it is in. */
export interface Role {
  readonly name: string
  readonly readonly: boolean
}

/** A password is asked for. */
export interface Challenge {
  readonly verifier: Verifier
  /** Waits until the password may be looked at; false: it may not. */
  pause(signal: AbortSignal): Promise<boolean>
  granted(): Role
  /** What the client is told; `reason` is for the log only. */
  denied(reason: string): SqlError
}

export interface Gatekeeper {
  /** Lets the visitor in, or asks for a password, or throws SqlError (FATAL). */
  ask(visitor: Visitor): Promise<{ readonly role: Role } | { readonly challenge: Challenge }>
}

export class Login {
  private readonly outbox: Outbox
  private readonly binding: Buffer | undefined
  private challenge: Challenge | undefined
  private exchange: ScramExchange | undefined
  private begun = false
  private readonly gone = new AbortController()

  /** `binding`: what ties the exchange to the encrypted connection it goes over. */
  constructor(outbox: Outbox, binding: Buffer | undefined) {
    this.outbox = outbox
    this.binding = binding
  }

  /** The role; undefined when the client has to answer first. */
  async begin(gatekeeper: Gatekeeper, visitor: Visitor): Promise<Role | undefined> {
    const answer = await gatekeeper.ask(visitor)
    if ('role' in answer) return answer.role
    this.challenge = answer.challenge
    this.exchange = new ScramExchange(answer.challenge.verifier, this.binding)
    responses.authenticationSasl(this.outbox.writer, mechanisms(this.binding))
    this.outbox.flush()
    return undefined
  }

  /** The client's next message, of type `p`. Throws FATAL SqlErrors, 28P01 for a wrong password. */
  async message(message: MessageReader): Promise<Role | undefined> {
    const { challenge, exchange } = this
    if (challenge === undefined || exchange === undefined) throw protocolViolation('no password was asked for')
    if (!this.begun) {
      this.begun = true
      const mechanism = message.cstring()
      const first = exchange.first(mechanism, message.bytes(message.int32()))
      message.finish()
      responses.authenticationData(this.outbox.writer, 'continue', first)
      this.outbox.flush()
      return undefined
    }
    // Copied: what the reader shows is valid only until more has arrived.
    const proof = Buffer.from(message.bytes(message.remaining))
    if (!(await challenge.pause(this.gone.signal))) throw challenge.denied('too many logins of this user are waiting after wrong passwords')
    const last = exchange.final(proof)
    if (last === undefined) throw challenge.denied('wrong password, or no such user')
    responses.authenticationData(this.outbox.writer, 'final', last)
    return challenge.granted()
  }

  /** The client has gone: nothing is waited for any more. */
  abandon(): void {
    this.gone.abort()
  }
}
