/**
 * A disk that keeps what was fsynced, and of the rest whatever it likes. Fed with the events of a recording, it says what a power cut
 * after any of them can have left, as far as POSIX promises anything (ext4 and xfs keep more):
 *
 * - A file has what it had when its last completed fsync began; of each later write nothing, all, a prefix of its pages, or any of its sectors of
 *   512 bytes; the same of each later cut.
 * - A directory has the entries that it had when its last completed fsync began; each later creation, rename, link and removal
 *   has happened or not, whatever the others did. A rename is whole: it never takes the old name without giving the new one. A
 *   file that was fsynced, but has no entry, is gone; and so is all below a directory without one.
 * - DuckDB's file changes at checkpoints: it writes blocks, fsyncs, writes one header page, fsyncs (seen with strace), so the new header can be
 *   there only when all the blocks are.
 *
 * What is read after the machine's start is on the disk: a disk that is loaded from a directory has all of that.
 */

import fs from 'node:fs'
import path from 'node:path'
import type { Random } from '../../support/random.ts'
import { checkpointNote } from './damage.ts'
import type { DiskEvent } from './recorder.ts'

const sector = 512
const page = 4096
/** The three header pages of a DuckDB file. */
const duckdbHeaders = 3 * page

/** A file's bytes; behind them zeros up to its size. */
interface Content {
  bytes: Buffer
  size: number
}

/** A change of a file's content that is not durable yet. */
type Change =
  | {
      readonly at: number
      readonly data: Buffer
      /** An fsync stands before it: it can be there only when all before it is. */
      readonly last?: boolean
    }
  /** Zeros behind all that there is. */
  | { readonly growTo: number }
  | { readonly cutTo: number }

/** What becomes durable by an fsync. */
abstract class Synced<T> {
  /** What is not durable yet, in order. */
  readonly pending: T[] = []
  /** Of each process that has begun an fsync: how many of `pending` it covers. */
  readonly #covered = new Map<number, number>()

  protected abstract keep(change: T): void

  syncing(pid: number): void {
    this.#covered.set(pid, this.pending.length)
  }

  synced(pid: number): void {
    this.settle(this.#covered.get(pid) ?? 0)
  }

  /** An fsync that a process had begun proves nothing, since it has died. */
  forget(pid: number): void {
    this.#covered.delete(pid)
  }

  settle(count: number): void {
    for (const change of this.pending.splice(0, count)) this.keep(change)
    for (const [pid, covered] of this.#covered) this.#covered.set(pid, Math.max(0, covered - count))
  }
}

class File extends Synced<Change> {
  /** What is durable. */
  content: Content = { bytes: Buffer.alloc(0), size: 0 }
  /** What DuckDB has in it, durable or not. */
  live: Buffer | undefined

  protected keep(change: Change): void {
    apply(this.content, change)
  }
}

/** Whether a change of entries has happened is decided once for all its directories. */
interface Entry {
  readonly name: string
  /** undefined: removed, if it was `removed`. */
  readonly node: Node | undefined
  readonly removed?: Node
  readonly fate: { durable: boolean }
}

class Directory extends Synced<Entry> {
  /** What is durable, and what is there. */
  readonly entries = new Map<string, Node>()
  readonly live = new Map<string, Node>()

  change(entry: Entry): void {
    this.pending.push(entry)
    enter(this.live, entry)
  }

  protected keep(entry: Entry): void {
    enter(this.entries, entry)
    entry.fate.durable = true
  }
}

type Node = File | Directory
type FileEvent = Extract<DiskEvent, { ino: number }>

function enter(entries: Map<string, Node>, { name, node, removed }: Entry): void {
  if (node !== undefined) entries.set(name, node)
  else if (entries.get(name) === removed) entries.delete(name)
}

export class LossyDisk {
  #root: string
  #top = new Directory()
  #inodes = new Map<number, File>()

  /** Of `root` and what is below it, which is now what is in `from`; the rest of the machine is no concern of this. `root` itself stays. */
  constructor(root: string, from = root) {
    this.#root = root
    this.#load(from, this.#top)
  }

  /** `rest`: the events that come after it. */
  apply(event: DiskEvent, rest: readonly DiskEvent[]): void {
    if ('ino' in event && event.e !== 'create' && event.e !== 'content') {
      const file = this.#inodes.get(event.ino)
      if (file !== undefined) changeFile(file, event)
      return
    }
    switch (event.e) {
      case 'directory':
        this.#change(event.path, { node: new Directory() })
        return
      case 'create':
        this.#create(event)
        return
      case 'rename':
        this.#rename(event.from, event.to)
        return
      case 'link':
        this.#change(event.to, { node: this.#find(event.from) })
        return
      case 'remove':
        this.#change(event.path, { node: undefined, removed: this.#find(event.path) })
        return
      case 'syncing-directory':
        this.#directory(event.path)?.syncing(event.pid)
        return
      case 'synced-directory':
        this.#directory(event.path)?.synced(event.pid)
        return
      case 'content':
        this.#content(event, rest)
        return
      case 'killed':
        for (const node of [...this.#inodes.values(), ...this.#directories()]) node.forget(event.pid)
    }
  }

  /**
   * Puts what is left into `target`, which does not exist, as `change` wants it (a file's bytes by its name). The disk stays as it is.
   * Returns what was kept and lost, for whoever looks for the cause of a failure.
   */
  cut(target: string, random: Random, change: (name: string, bytes: Buffer) => Buffer = (_, bytes) => bytes): string[] {
    const story: string[] = []
    const fates = new Map<Entry['fate'], boolean>()
    // A disk that keeps all, one that keeps nothing, and those between: each is likely to show other faults.
    const kept = { entries: random.pick([0, 0.5, 1]), content: random.pick([0, 0.1, 0.5, 0.9, 1]) }
    const write = (directory: Directory, to: string) => {
      fs.mkdirSync(to)
      const entries = new Map(directory.entries)
      for (const entry of directory.pending) {
        if (!fates.has(entry.fate)) fates.set(entry.fate, entry.fate.durable || random.chance(kept.entries))
        if (fates.get(entry.fate) === true) enter(entries, entry)
        story.push(`${entry.node ? 'entry' : 'removal'} ${entry.name}: ${fates.get(entry.fate) ? 'kept' : 'lost'}`)
      }
      for (const [name, node] of entries) {
        const at = path.join(to, name)
        if (node instanceof Directory) write(node, at)
        else {
          const { bytes, size } = remains(node, random, kept.content, (what) => story.push(`${name}: ${what}`))
          writeSparse(at, change(name, bytes), size)
        }
      }
    }
    write(this.#top, target)
    return story
  }

  #create({ path: file, ino }: { path: string; ino: number }): File {
    const node = new File()
    this.#inodes.set(ino, node)
    this.#change(file, { node })
    return node
  }

  #content(event: Extract<DiskEvent, { e: 'content' }>, rest: readonly DiskEvent[]): void {
    const { moment, ino, copy } = event
    const node = this.#inodes.get(ino) ?? this.#create(event)
    if (/^CHECKPOINT|:CHECKPOINT$/.test(event.label)) this.#note(`${event.path}.wal`, moment)
    const found = fs.readFileSync(copy)
    // Blocks that DuckDB has written ahead, or, after a kill, all that it had written.
    this.#differ(node, found)
    if (moment === 'after') node.settle(node.pending.length)
    // What comes until it is seen again may be there in part from here on.
    const next = rest.find((event) => event.e === 'content' && event.ino === ino)
    if (next?.e === 'content') this.#differ(node, fs.readFileSync(next.copy))
  }

  /** DuckDB's note of a checkpoint, which it writes before all else and removes when all is done. */
  #note(file: string, moment: 'before' | 'after'): void {
    const node = moment === 'before' ? new File() : undefined
    node?.pending.push({ at: 0, data: checkpointNote })
    this.#change(file, { node, removed: this.#find(file) })
  }

  #differ(node: File, found: Buffer): void {
    const before = node.live ?? wholeOf(node)
    const headers: Change[] = []
    for (let at = 0; at < found.length; at += page) {
      const [end, old] = [Math.min(at + page, found.length), before.subarray(at, at + page)]
      if (old.length === end - at && old.compare(found, at, end) === 0) continue
      const change = { at, data: found.subarray(at, end) }
      if (at < duckdbHeaders) headers.push({ ...change, last: true })
      else node.pending.push(change)
    }
    if (found.length < before.length) node.pending.push({ cutTo: found.length })
    node.pending.push(...headers)
    node.live = found
  }

  #rename(from: string, to: string): void {
    const node = this.#find(from)
    if (node === undefined) return
    const fate = { durable: false }
    this.#change(to, { node }, fate)
    this.#change(from, { node: undefined, removed: node }, fate)
  }

  #change(file: string, entry: Pick<Entry, 'node' | 'removed'>, fate = { durable: false }): void {
    this.#directory(path.dirname(file))?.change({ name: path.basename(file), ...entry, fate })
  }

  #directory(file: string): Directory | undefined {
    const found = this.#find(file)
    return found instanceof Directory ? found : undefined
  }

  /** What stands at a path now; undefined outside of this disk. */
  #find(file: string): Node | undefined {
    const relative = path.relative(this.#root, file)
    if (relative.startsWith('..')) return undefined
    let node: Node | undefined = this.#top
    for (const name of relative === '' ? [] : relative.split(path.sep)) node = node instanceof Directory ? node.live.get(name) : undefined
    return node
  }

  *#directories(top = this.#top): Generator<Directory> {
    yield top
    for (const node of top.live.values()) if (node instanceof Directory) yield* this.#directories(node)
  }

  #load(from: string, directory: Directory): void {
    for (const found of fs.readdirSync(from, { withFileTypes: true })) {
      const at = path.join(from, found.name)
      const node = found.isDirectory() ? new Directory() : found.isFile() ? new File() : undefined
      if (node === undefined) continue
      if (node instanceof Directory) this.#load(at, node)
      else {
        const bytes = fs.readFileSync(at)
        node.content = { bytes, size: bytes.length }
        this.#inodes.set(fs.statSync(at).ino, node)
      }
      directory.entries.set(found.name, node)
      directory.live.set(found.name, node)
    }
  }
}

function changeFile(file: File, event: FileEvent): void {
  if (event.e === 'write') file.pending.push({ at: event.at, data: event.data })
  else if (event.e === 'zeros') file.pending.push(zeros(file, event.at, event.count))
  else if (event.e === 'cut') file.pending.push({ cutTo: event.length })
  else if (event.e === 'syncing') file.syncing(event.pid)
  else if (event.e === 'synced') file.synced(event.pid)
}

/** A content that a file can have after the cut. `kept`: how likely a change is to have reached the disk. */
function remains(file: File, random: Random, kept: number, tell: (what: string) => void): Content {
  if (file.pending.length === 0) return file.content
  const content = { bytes: Buffer.from(file.content.bytes), size: file.content.size }
  const last = file.pending.findLastIndex((change) => 'last' in change)
  const isWhole = last !== -1 && random.chance(kept)
  for (const [i, change] of file.pending.entries()) {
    if (isWhole && i < last) apply(content, change)
    else if ('last' in change && !isWhole) tell('new header lost')
    else applyPart(content, change, random, kept, tell)
  }
  return content
}

function applyPart(content: Content, change: Change, random: Random, kept: number, tell: (what: string) => void): void {
  const all = random.chance(kept)
  if (!('data' in change)) {
    tell(`${JSON.stringify(change)}: ${all ? 'kept' : 'lost'}`)
    if (all) apply(content, change)
    return
  }
  const { at, data } = change
  const end = at + data.length
  const what = `${data.length} bytes at ${at}`
  if (all || random.chance(0.5)) {
    tell(`${what}: ${all ? 'kept' : 'lost'}`)
    if (all) apply(content, change)
    // Its room may be there without its bytes.
    else if (random.chance(kept)) apply(content, { growTo: end })
    return
  }
  tell(`${what}: in part`)
  const ranges = random.chance(0.5) ? [[at, prefixEnd(random, at, data.length)] as const] : someSectors(random, at, data.length)
  for (const [from, to] of ranges) apply(content, { at: from, data: data.subarray(from - at, to - at) })
  if (random.chance(0.5)) apply(content, { growTo: end })
}

/** Where a page ends within the bytes. */
function prefixEnd(random: Random, at: number, length: number): number {
  const pages = Math.floor((at + length - 1) / page) - Math.floor(at / page)
  const last = Math.floor(at / page) + random.int(0, pages)
  return Math.min(at + length, Math.max(at, last * page))
}

/** Pieces of the bytes: sectors of the disk, each kept or not. */
function someSectors(random: Random, at: number, length: number): [begin: number, end: number][] {
  const ranges: [number, number][] = []
  // Of a large write runs of sectors, so that it costs no million decisions.
  const step = sector * Math.max(1, Math.ceil(length / sector / 64))
  for (let begin = at; begin < at + length; begin = Math.floor(begin / step) * step + step) {
    if (random.chance(0.5)) ranges.push([begin, Math.min(at + length, Math.floor(begin / step) * step + step)])
  }
  return ranges
}

function apply(content: Content, change: Change): void {
  if ('growTo' in change) content.size = Math.max(content.size, change.growTo)
  else if ('cutTo' in change) {
    content.size = Math.min(content.size, change.cutTo)
    content.bytes = content.bytes.subarray(0, content.size)
  } else {
    const end = change.at + change.data.length
    if (content.bytes.length < end) {
      const room = Buffer.alloc(end)
      content.bytes.copy(room)
      content.bytes = room
    }
    change.data.copy(content.bytes, change.at)
    content.size = Math.max(content.size, end)
  }
}

/** Zeros where nothing stands yet, nor is on its way, only make the file longer. */
function zeros({ content, pending }: File, at: number, count: number): Change {
  const ends = pending.map((change) => ('data' in change ? change.at + change.data.length : 0))
  return at >= Math.max(content.bytes.length, ...ends) ? { growTo: at + count } : { at, data: Buffer.alloc(count) }
}

/** With all that is on its way. */
function wholeOf(file: File): Buffer {
  const content = { bytes: Buffer.from(file.content.bytes), size: file.content.size }
  for (const change of file.pending) apply(content, change)
  return Buffer.concat([content.bytes, Buffer.alloc(content.size - content.bytes.length)])
}

/** Zeros at the end are a hole. */
function writeSparse(file: string, bytes: Buffer, size: number): void {
  const fd = fs.openSync(file, 'wx', 0o600)
  fs.writeSync(fd, bytes, 0, bytes.length, 0)
  fs.ftruncateSync(fd, size)
  fs.closeSync(fd)
}
