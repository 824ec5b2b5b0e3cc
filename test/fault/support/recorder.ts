/**
 * Turns the steps of a process (agent/step.ts) into events of a disk: what it writes, what it asks to be made durable and when that has
 * ended, and what it has told its clients. From them test/fault/support/lossy-disk.ts builds what a power cut at any moment can leave.
 */

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { Outbox } from '../../../agent/engine/pgwire/outbox.ts'
import type { Step } from '../../../agent/step.ts'

export type DiskEvent = { label: string; pid: number } & (
  | { e: 'directory'; path: string }
  /** A new file; others are known by their inode from the event that created them, since they are renamed. */
  | { e: 'create'; path: string; ino: number }
  | { e: 'write'; ino: number; at: number; data: Buffer }
  | { e: 'zeros'; ino: number; at: number; count: number }
  | { e: 'cut'; ino: number; length: number }
  /** An fsync begins, and has ended: it covers what was written before it began. */
  | { e: 'syncing'; ino: number }
  | { e: 'synced'; ino: number }
  | { e: 'rename'; from: string; to: string }
  | { e: 'link'; from: string; to: string }
  /** A file, or a directory with all that is in it. */
  | { e: 'remove'; path: string }
  | { e: 'syncing-directory'; path: string }
  | { e: 'synced-directory'; path: string }
  /** DuckDB's file, which it writes itself, as it is before a checkpoint (or before DuckDB opens it), and as it is after one. */
  | { e: 'content'; moment: 'before' | 'after'; path: string; ino: number; copy: string }
  /** The process has died: an fsync that it had begun proves nothing. */
  | { e: 'killed' }
  /** Somebody has been told something, which must hold from now on. */
  | { e: 'told'; what: unknown }
)

/** An event without what every event has. */
export type Detail = DiskEvent extends infer Event ? (Event extends DiskEvent ? Omit<Event, 'label' | 'pid'> : never) : never
export type Tell = (event: Detail, label: string) => void

export interface RecorderOptions {
  tell: Tell
  /** DuckDB's file; copies of it go to `<copies>.<number>`. */
  database?: string
  copies?: string
}

/** What a process is told of its recording: the file that all of them append to, and DuckDB's file. */
export interface RecordPlan {
  log: string
  database: string
}

/** As `recorder`, with the events in a file, and the answers to clients among them. */
export function fileRecorder({ log, database }: RecordPlan): (step: Step) => void {
  const tell = fileTeller(log)
  listenToAnswers(tell)
  return recorder({ tell, database, copies: log })
}

/** Appends events to a file, each at once: whoever is killed has told all that it did. */
export function fileTeller(log: string): Tell {
  const fd = fs.openSync(log, 'a')
  return (event, label) => {
    const data = event.e === 'write' ? { data: event.data.toString('base64') } : {}
    fs.writeSync(fd, `${JSON.stringify({ ...event, ...data, label, pid: process.pid })}\n`)
  }
}

export function readEvents(log: string): DiskEvent[] {
  const lines = fs.readFileSync(log, 'utf8').split('\n')
  return lines
    .filter((line) => line.endsWith('}'))
    .map((line) => {
      const event = JSON.parse(line)
      return event.e === 'write' ? { ...event, data: Buffer.from(event.data, 'base64') } : event
    })
}

/** So many statements of the client at this port were answered with success. */
export interface Answer {
  port: number
  completed: number
}

/** CommandComplete messages as they leave for a client, by its own socket or together with those of others; what leaves at a time are whole messages. */
function listenToAnswers(tell: Tell): void {
  const listen = (socket: net.Socket, bytes: Uint8Array) => {
    const port = socket.remotePort
    if (port === undefined) return
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let completed = 0
    for (let at = 0; at + 5 <= view.length; at += 1 + view.readUInt32BE(at + 1)) if (view[at] === 0x43) completed++
    if (completed > 0) tell({ e: 'told', what: { port, completed } satisfies Answer }, 'ANSWER')
  }
  const { write } = net.Socket.prototype
  net.Socket.prototype.write = function (this: net.Socket, ...args: Parameters<typeof write>) {
    const [bytes] = args as unknown[]
    if (bytes instanceof Uint8Array) listen(this, bytes)
    return write.apply(this, args)
  } as typeof write
  const { offer } = Outbox.prototype
  Outbox.prototype.offer = function (this: Outbox, ...args: Parameters<typeof offer>) {
    const send = offer.apply(this, args)
    if (send !== undefined) listen((this as unknown as { socket: net.Socket }).socket, send.bytes)
    return send
  }
}

const inodeOf = (target: string | number) => (typeof target === 'number' ? fs.fstatSync(target) : fs.statSync(target)).ino

/** Watches the steps of this process. */
export function recorder({ tell, database, copies }: RecorderOptions): (step: Step) => void {
  const absent = new Set<string>()
  /** Files that are being copied by one call, which no step describes: they are read when their fsync begins. */
  const copying = new Set<string>()
  let count = 0
  const keepContent = (moment: 'before' | 'after', label: string) => {
    if (database === undefined || !fs.existsSync(database)) return
    const copy = `${copies}.${process.pid}.${count++}`
    fs.copyFileSync(database, copy)
    tell({ e: 'content', moment, path: database, ino: inodeOf(database), copy }, label)
  }
  return ({ label, kind, target, detail, at }) => {
    const file = target as string
    switch (kind) {
      case 'mkdir':
        for (const missing of missingDirectories(file)) tell({ e: 'directory', path: missing }, label)
        return
      case 'open':
        if (!fs.existsSync(file)) absent.add(file)
        return
      case 'opened': {
        const { ino, size } = fs.fstatSync(detail as number)
        if (absent.delete(file)) tell({ e: 'create', path: file, ino }, label)
        // Opened with `w`: what was in it is gone.
        else if (size === 0) tell({ e: 'cut', ino, length: 0 }, label)
        return
      }
      case 'write':
        return tellWrite(tell, label, inodeOf(target), at, Buffer.from(detail as Uint8Array))
      case 'cut':
        return tell({ e: 'cut', ino: inodeOf(target), length: detail as number }, label)
      case 'copy':
        copying.add(detail as string)
        return
      case 'sync': {
        const ino = inodeOf(target)
        for (const copy of copying) {
          if (!fs.existsSync(copy) || inodeOf(copy) !== ino) continue
          copying.delete(copy)
          tell({ e: 'create', path: copy, ino }, label)
          tell({ e: 'write', ino, at: 0, data: fs.readFileSync(copy) }, label)
        }
        return tell({ e: 'syncing', ino }, label)
      }
      case 'synced':
        return tell({ e: 'synced', ino: inodeOf(target) }, label)
      case 'rename':
      case 'link':
        return tell({ e: kind, from: file, to: detail as string }, label)
      case 'remove':
        if (fs.existsSync(file)) tell({ e: 'remove', path: file }, label)
        return
      case 'sync-directory':
        if (label === 'RECOVERY:CHECKPOINT') keepContent('after', label)
        return tell({ e: 'syncing-directory', path: file }, label)
      case 'synced-directory':
        return tell({ e: 'synced-directory', path: file }, label)
      case 'step':
        if (label === 'RECOVERY:OPEN' || label === 'CHECKPOINT:RUN' || label === 'RECOVERY:CHECKPOINT') keepContent('before', label)
        if (label === 'CHECKPOINT:DONE') keepContent('after', label)
    }
  }
}

function tellWrite(tell: Tell, label: string, ino: number, at: number, data: Buffer): void {
  const isZero = data.length > 0 && data[0] === 0 && data.compare(data, 1, data.length, 0, data.length - 1) === 0
  tell(isZero ? { e: 'zeros', ino, at, count: data.length } : { e: 'write', ino, at, data }, label)
}

/** Those that `directory` needs and that are not there, outermost first. */
function missingDirectories(directory: string): string[] {
  const missing: string[] = []
  for (let at = directory; !fs.existsSync(at); at = path.dirname(at)) missing.unshift(at)
  return missing
}
