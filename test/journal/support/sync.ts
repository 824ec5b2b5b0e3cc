/** The journal's fsyncs, as a test wants them. */

import fs from 'node:fs'

/** Runs `work` while every fdatasync of this process goes through `sync`. */
export async function withSync(
  sync: (fd: number, real: typeof fs.fdatasync, done: fs.NoParamCallback) => void,
  work: () => Promise<void>,
): Promise<void> {
  const real = fs.fdatasync
  fs.fdatasync = ((fd: number, done: fs.NoParamCallback) => sync(fd, real, done)) as typeof fs.fdatasync
  try {
    await work()
  } finally {
    fs.fdatasync = real
  }
}
