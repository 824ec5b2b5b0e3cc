/**
 * Loaded into an engine beforehand (`node --import`): while the file that HELD_SYNC names exists, no fsync of the journal gets through; `<file>.waits`
 * appears when one waits. So a moment lasts that is else too short to look at: DuckDB has committed, and the disk has not.
 */

import fs from 'node:fs'
import { Callers } from '../../../agent/engine/callers.ts'

const file = process.env.HELD_SYNC as string
const { fdatasync, write } = fs

function held(go: () => void): void {
  if (!fs.existsSync(file)) {
    go()
    return
  }
  fs.writeFileSync(`${file}.waits`, '')
  setTimeout(() => held(go), 5)
}

fs.fdatasync = ((...call: Parameters<typeof fdatasync>) => held(() => fdatasync(...call))) as typeof fs.fdatasync
// What is opened with O_DSYNC is durable when its write ends.
fs.write = ((...call: Parameters<typeof write>) => held(() => write(...call))) as typeof fs.write

// Many: an fsync on the event loop would hold up who lets it go on. One: what is written ahead of DuckDB's commit is fsynced beside it.
Object.defineProperty(Callers.prototype, 'isOne', { value: process.env.HELD_CALLERS === 'one' })
