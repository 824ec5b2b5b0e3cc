/**
 * The kernel's side of send-ring.ts: io_uring(7), as much of it as sends need. Offsets, flags and numbers: include/uapi/linux/io_uring.h; its
 * two system calls have the same numbers on x64 and arm64.
 */

import koffi from 'koffi'

const io_uring_setup = 425
const io_uring_enter = 426
const PROT_READ_WRITE = 3
const MAP_SHARED_POPULATE = 0x8001
const IORING_OFF_SQ_RING = 0
const IORING_OFF_SQES = 0x10000000
const IORING_ENTER_GETEVENTS = 1
export const IORING_OP_SEND = 26
/** One mapping for both rings (Linux 5.4), no completion is dropped (5.5), and sends are known: IORING_FEAT_FAST_POLL (5.7) came after them (5.6). */
const neededFeatures = 1 | 2 | 32

/** struct io_uring_params, with struct io_sqring_offsets and struct io_cqring_offsets in it: offsets in bytes. */
const params = { bytes: 120, submissions: 0, completions: 4, features: 20 }
const submission = { head: 40, tail: 44, array: 64 }
const completion = { head: 80, tail: 84, mask: 88, entries: 100 }
/** struct io_uring_sqe */
export const request = { bytes: 64, opcode: 0, fd: 4, address: 16, length: 24, flags: 28, userData: 32 }
/** struct io_uring_cqe, in words of 32 bits. */
export const outcome = { words: 4, userData: 0, result: 2 }

type Call = (...parameters: unknown[]) => number

/** Two rings in memory that is the kernel's as well, as words of 32 bits, and the places for requests. */
export interface Uring {
  readonly words: Int32Array
  readonly requests: DataView
  /** Indexes into `words`. A head is where its reader is, a tail where its writer is. */
  readonly submitted: { readonly head: number; readonly tail: number }
  readonly completed: { readonly head: number; readonly tail: number; readonly entries: number; readonly mask: number }
  /** Hands over so many requests, and waits until so many outcomes are there. How many the kernel has taken, or -1. */
  enter(requests: number, outcomes: number): number
}

/** `entries`: places for requests, a power of two. Throws what the kernel says where it has none of these, or lets nobody have them. */
export function openUring(entries: number): Uring {
  const libc = koffi.load('libc.so.6')
  const setup = libc.func('long syscall(long number, uint32_t entries, void *params)') as Call
  const enter = libc.func(
    'long syscall(long number, int fd, uint32_t submit, uint32_t complete, uint32_t flags, void *set, size_t size)',
  ) as Call
  const map = libc.func('void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)')
  const close = libc.func('int close(int fd)') as Call
  const facts = Buffer.alloc(params.bytes)
  // The kernel has it closed in children.
  const fd = Number(setup(io_uring_setup, entries, facts))
  if (fd < 0) throw new Error(`io_uring_setup: errno ${koffi.errno()}`)
  const fact = (offset: number) => facts.readUInt32LE(offset)
  const share = (bytes: number, offset: number): ArrayBuffer => {
    const at: unknown = map(null, bytes, PROT_READ_WRITE, MAP_SHARED_POPULATE, fd, offset)
    if (BigInt.asIntN(64, koffi.address(at)) === -1n) throw new Error(`mmap of an io_uring: errno ${koffi.errno()}`)
    return koffi.view(at, bytes)
  }
  try {
    if ((fact(params.features) & neededFeatures) !== neededFeatures) throw new Error('io_uring: the kernel is older than 5.7')
    const [array, outcomes] = [fact(submission.array), fact(completion.entries)]
    const words = new Int32Array(
      share(Math.max(array + entries * 4, outcomes + fact(params.completions) * outcome.words * 4), IORING_OFF_SQ_RING),
    )
    // Which request each entry means: always its own.
    for (let place = 0; place < entries; place++) words[array / 4 + place] = place
    return {
      words,
      requests: new DataView(share(entries * request.bytes, IORING_OFF_SQES)),
      submitted: { head: fact(submission.head) / 4, tail: fact(submission.tail) / 4 },
      completed: {
        head: fact(completion.head) / 4,
        tail: fact(completion.tail) / 4,
        entries: outcomes / 4,
        mask: words[fact(completion.mask) / 4] as number,
      },
      enter: (requests, wanted) => Number(enter(io_uring_enter, fd, requests, wanted, IORING_ENTER_GETEVENTS, null, 0)),
    }
  } catch (error) {
    close(fd)
    throw error
  }
}
