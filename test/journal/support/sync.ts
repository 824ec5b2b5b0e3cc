/** The journal's fsyncs, as a test wants them. */

import fs from 'node:fs'

/** Runs `work` while every fdatasync of this process goes through `sync`, also the one that a write of what is opened with O_DSYNC has in it. */
export async function withSync(
  sync: (fd: number, real: typeof fs.fdatasync, done: fs.NoParamCallback) => void,
  work: () => Promise<void>,
): Promise<void> {
  const { fdatasync, write } = fs
  fs.fdatasync = ((fd: number, done: fs.NoParamCallback) => sync(fd, fdatasync, done)) as typeof fs.fdatasync
  fs.write = ((
    fd: number,
    data: Uint8Array,
    offset: number,
    length: number,
    at: number,
    done: (error: unknown, written: number) => void,
  ) => {
    let written = 0
    try {
      written = fs.writeSync(fd, data, offset, length, at)
    } catch (error) {
      return void setImmediate(done, error, 0)
    }
    sync(fd, fdatasync, (error) => done(error, written))
  }) as typeof fs.write
  try {
    await work()
  } finally {
    Object.assign(fs, { fdatasync, write })
  }
}
