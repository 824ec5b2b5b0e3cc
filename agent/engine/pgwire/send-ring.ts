/**
 * Sends to many sockets in one call into the kernel. Each send is tried once and does not wait, so the kernel is done with it when the call returns: the ring
 * is used as a function would be, and nothing is ever under way.
 */

import koffi from 'koffi'
import { IORING_OP_SEND, openUring, outcome, request, type Uring } from './io-uring.ts'

const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000

/** Most sends of one call. A power of two: each place in the ring has bytes of its own. */
export const mostSends = 64
/** Most bytes of one send. */
export const mostBytes = 512

export interface Send {
  readonly fd: number
  readonly bytes: Uint8Array
}

export class SendRing {
  #ring: Uring
  /** What is sent, by place: the kernel has its address. */
  #staging = Buffer.allocUnsafeSlow(mostSends * mostBytes)

  /** Throws what the kernel says where it has no such rings, or lets nobody have them. */
  constructor() {
    this.#ring = openUring(mostSends)
    const { requests } = this.#ring
    const address = koffi.address(this.#staging)
    for (let place = 0; place < mostSends; place++) {
      const at = place * request.bytes
      requests.setUint8(at + request.opcode, IORING_OP_SEND)
      requests.setBigUint64(at + request.address, address + BigInt(place * mostBytes), true)
      requests.setUint32(at + request.flags, MSG_DONTWAIT | MSG_NOSIGNAL, true)
      requests.setUint32(at + request.userData, place, true)
    }
  }

  /** At most `mostSends`. For each the bytes sent, or a negative errno; undefined where the kernel does not say. */
  send(sends: readonly Send[]): (number | undefined)[] {
    const { words, requests, submitted } = this.#ring
    const first = words[submitted.tail] as number
    for (const [i, { fd, bytes }] of sends.entries()) {
      const place = placeOf(first + i)
      this.#staging.set(bytes, place * mostBytes)
      requests.setInt32(place * request.bytes + request.fd, fd, true)
      requests.setUint32(place * request.bytes + request.length, bytes.length, true)
    }
    // The kernel reads what is written before it.
    Atomics.store(words, submitted.tail, (first + sends.length) | 0)
    const taken = this.#submit(sends.length)
    // What it has not taken, it is not to find at the next call.
    Atomics.store(words, submitted.tail, (first + taken) | 0)
    return this.#outcomes(first, sends.length, taken)
  }

  /** How many of so many requests the kernel has taken: all, but where it is short of memory. */
  #submit(count: number): number {
    let taken = 0
    while (taken < count) {
      const more = this.#ring.enter(count - taken, count)
      if (more <= 0) break
      taken += more
    }
    return taken
  }

  #outcomes(first: number, count: number, taken: number): (number | undefined)[] {
    const { words, completed } = this.#ring
    const results: (number | undefined)[] = Array.from({ length: count }, (_, i) => (i < taken ? undefined : 0))
    const end = Atomics.load(words, completed.tail)
    let head = words[completed.head] as number
    for (; head !== end; head = (head + 1) | 0) {
      const at = completed.entries + (head & completed.mask) * outcome.words
      results[placeOf((words[at + outcome.userData] as number) - first)] = words[at + outcome.result]
    }
    Atomics.store(words, completed.head, head)
    return results
  }
}

function placeOf(index: number): number {
  return index & (mostSends - 1)
}
