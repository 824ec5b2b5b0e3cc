/**
 * Loaded into an engine beforehand (`node --import`): while the file that HELD_SYNC names exists, no fsync of the journal gets through; `<file>.waits`
 * appears when one waits. So a moment lasts that is else too short to look at: DuckDB has committed, and the disk has not.
 */

import fs from 'node:fs'
import { Callers } from '../../../agent/engine/callers.ts'

const file = process.env.HELD_SYNC as string
const fdatasync = fs.fdatasync

fs.fdatasync = ((fd: number, done: (error: NodeJS.ErrnoException | null) => void) => {
  const go = () => {
    if (!fs.existsSync(file)) return fdatasync(fd, done)
    fs.writeFileSync(`${file}.waits`, '')
    setTimeout(go, 5)
  }
  go()
}) as typeof fs.fdatasync

// Many: an fsync on the event loop would hold up who lets it go on. One: what is written ahead of DuckDB's commit is fsynced beside it.
Object.defineProperty(Callers.prototype, 'isOne', { value: process.env.HELD_CALLERS === 'one' })
