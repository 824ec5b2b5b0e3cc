/**
 * Records, in order, all that a process writes to the file system through agent/disk.ts, every fsync, each checkpoint's file, and each
 * answer to a client: from this a test builds what a power cut at any moment could have left (test/fault/support/power-cut.ts).
 * The record is a file of JSON lines, written at once, so that it is complete when the process is killed.
 */

import fs from 'node:fs'
import net from 'node:net'
import type { Step } from '../../../agent/step.ts'

/** Files are known by their inode, since they are renamed. */
export type RecordedEvent =
  | { e: 'create'; path: string; ino: number }
  /** `data`: base64; `zeros`: that many. */
  | { e: 'write'; ino: number; at: number; data?: string; zeros?: number }
  | { e: 'cut'; ino: number; length: number }
  /** An fsync begins, and has ended: it covers what was written before it began. */
  | { e: 'syncing'; ino: number }
  | { e: 'synced'; ino: number }
  | { e: 'rename'; from: string; to: string; ino: number }
  | { e: 'link'; to: string; ino: number }
  | { e: 'remove'; path: string }
  | { e: 'synced-directory'; path: string }
  /** A checkpoint begins, and has ended; `copy` is the database file then. */
  | { e: 'checkpointing' }
  | { e: 'checkpointed'; copy: string }
  /** `completed` statements were answered with success to the client at this port. */
  | { e: 'answer'; port: number; completed: number }

export function recorder(file: string): (step: Step) => void {
  const log = fs.openSync(file, 'a')
  const tell = (event: RecordedEvent) => void fs.writeSync(log, `${JSON.stringify(event)}\n`)
  const inodeOf = (target: string | number) => (typeof target === 'number' ? fs.fstatSync(target) : fs.statSync(target)).ino
  let isNew = false
  let checkpoints = 0
  listenToAnswers(tell)
  return ({ label, kind, target, detail, at }) => {
    switch (kind) {
      case 'open':
        isNew = !fs.existsSync(target as string)
        return
      case 'opened': {
        const ino = inodeOf(detail as number)
        if (isNew) tell({ e: 'create', path: target as string, ino })
        // Opened with `w`: what was in it is gone.
        else if (fs.fstatSync(detail as number).size === 0) tell({ e: 'cut', ino, length: 0 })
        return
      }
      case 'write': {
        const data = Buffer.from(detail as Uint8Array)
        const ino = inodeOf(target)
        if (data.every((byte) => byte === 0)) tell({ e: 'write', ino, at, zeros: data.length })
        else tell({ e: 'write', ino, at, data: data.toString('base64') })
        return
      }
      case 'cut':
        return tell({ e: 'cut', ino: inodeOf(target), length: detail as number })
      case 'sync':
        return tell({ e: 'syncing', ino: inodeOf(target) })
      case 'synced':
        return tell({ e: 'synced', ino: inodeOf(target) })
      case 'rename':
        return tell({ e: 'rename', from: target as string, to: detail as string, ino: inodeOf(target) })
      case 'link':
        return tell({ e: 'link', to: detail as string, ino: inodeOf(target) })
      case 'remove':
        if (fs.existsSync(target as string)) tell({ e: 'remove', path: target as string })
        return
      case 'synced-directory':
        return tell({ e: 'synced-directory', path: target as string })
      case 'step':
        if (label === 'CHECKPOINT:RUN') tell({ e: 'checkpointing' })
        if (label === 'CHECKPOINT:DONE') {
          const copy = `${file}.${checkpoints++}.duckdb`
          fs.copyFileSync(process.env.DAEMONGUARD_RECORDED_DATABASE as string, copy)
          tell({ e: 'checkpointed', copy })
        }
    }
  }
}

/** CommandComplete messages, as they leave for a client; an answer is written in whole messages. */
function listenToAnswers(tell: (event: RecordedEvent) => void): void {
  const write = net.Socket.prototype.write
  net.Socket.prototype.write = function (this: net.Socket, ...args: Parameters<typeof write>) {
    const [bytes] = args as unknown[]
    if (Buffer.isBuffer(bytes) && this.remotePort !== undefined) {
      let completed = 0
      for (let at = 0; at + 5 <= bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) if (bytes[at] === 0x43) completed++
      if (completed > 0) tell({ e: 'answer', port: this.remotePort, completed })
    }
    return write.apply(this, args)
  } as typeof write
}
