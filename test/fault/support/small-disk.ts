/** Disks that can be full: small file systems of their own (tmpfs), which only root can mount. */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import * as assert from 'uvu/assert'
import { onExit } from '../../support/cleanup.ts'
import { temporaryDirectory } from '../../support/temp.ts'

export const canMount = process.platform === 'linux' && process.getuid?.() === 0

export class SmallDisk {
  readonly directory = temporaryDirectory('disk')
  #fillings = 0

  /** `size` as tmpfs takes it: `48m`. Unmounted when this process ends. */
  constructor(size: string) {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', this.directory], { encoding: 'utf8' })
    assert.is(mounted.status, 0, mounted.stderr)
    onExit(() => void spawnSync('umount', ['-l', this.directory]))
  }

  /** Takes what is left but `room` bytes; to the last byte without. */
  fill(room = 0): void {
    const fd = fs.openSync(this.#filling(this.#fillings++), 'w')
    try {
      for (const bytes of [1 << 20, 1 << 12])
        try {
          for (;;) fs.writeSync(fd, Buffer.alloc(bytes, 1))
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        }
      if (room > 0) fs.ftruncateSync(fd, fs.fstatSync(fd).size - room)
    } finally {
      fs.closeSync(fd)
    }
  }

  /** Gives all of it back. */
  clear(): void {
    while (this.#fillings > 0) fs.rmSync(this.#filling(--this.#fillings))
  }

  #filling(number: number): string {
    return path.join(this.directory, `filling-${number}`)
  }
}
