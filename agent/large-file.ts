/**
 * A new file of many bytes, written beside others that need the same disk. Where the file system can, it goes past the page cache (O_DIRECT, open(2)):
 * the kernel need not copy it, drives nobody else's pages out, and has nothing to write in the end. Elsewhere some MiB at a time are made durable, since an
 * fsync of all of it at once holds up those of others, the journal's, for as long as it takes.
 */

import type { FileHandle } from 'node:fs/promises'
import { createHandle, isIndirect, openDirectly, removeDurably, syncHandle, writeHandle } from './disk.ts'
import type { Label } from './step.ts'

/** What O_DIRECT wants lengths and places to be multiples of, in the file and in memory, on most disks; the others refuse it. */
const sectorBytes = 4096
/** Most bytes in the page cache that are not durable. */
const mostCached = 8 << 20

export class LargeFile {
  #label: Label
  #cached: FileHandle
  #direct: FileHandle | undefined
  #unsynced = 0

  private constructor(cached: FileHandle, direct: FileHandle | undefined, label: Label) {
    this.#cached = cached
    this.#direct = direct
    this.#label = label
  }

  /** It must not exist (created 0600). Throws what the disk says, and leaves nothing then. */
  static async create(file: string, label: Label): Promise<LargeFile> {
    const cached = await createHandle(file, label)
    try {
      return new LargeFile(cached, await openDirectly(file, label), label)
    } catch (error) {
      await cached.close()
      removeDurably(file, label)
      throw error
    }
  }

  /** Only what lies at a multiple of `sectorBytes`, here and there, can go past the cache. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    const isAligned = [bytes.byteOffset, bytes.length, position].every((each) => each % sectorBytes === 0)
    if (this.#direct !== undefined && isAligned) {
      try {
        return await writeHandle(this.#direct, bytes, position, this.#label)
      } catch (error) {
        // Some file systems refuse it only here.
        if (!isIndirect(error)) throw error
        await this.#closeDirect()
      }
    }
    await writeHandle(this.#cached, bytes, position, this.#label)
    this.#unsynced += bytes.length
    if (this.#unsynced >= mostCached) await this.sync()
  }

  /** Makes all of it durable. */
  async sync(): Promise<void> {
    await syncHandle(this.#cached, this.#label)
    this.#unsynced = 0
  }

  async close(): Promise<void> {
    try {
      await this.#closeDirect()
    } finally {
      await this.#cached.close()
    }
  }

  async #closeDirect(): Promise<void> {
    const direct = this.#direct
    this.#direct = undefined
    await direct?.close()
  }
}
