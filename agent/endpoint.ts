/**
 * Where engine and agent listen for their own kind: a Unix socket of mode 0600, named by a path in the data directory. On Windows that path is a file
 * that holds the name of a pipe, random and new at each start, so nobody can be waiting under it; who may read the file may connect.
 *
 * Windows lets everybody on the machine open any pipe for reading, and whoever listens here may speak first, with secrets. So on Windows a
 * connection counts from the first byte that came over it: who may only read cannot send one, and is told nothing.
 */

import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import { removeDurably, writeAtomic } from './disk.ts'
import type { Label } from './step.ts'

const hasPipes = process.platform === 'win32'
const greeting = 0x0a
/** Bytes of `file`: sun_path holds 108 with its final zero on Linux, 104 on macOS. */
export const longestPath = hasPipes ? Number.POSITIVE_INFINITY : 103

/** Listens at `file`. What lies there is removed: the caller holds the lock that says nobody else serves it. */
export async function listenAt(server: net.Server, file: string, label: Label): Promise<void> {
  if (fs.existsSync(file)) removeDurably(file, label)
  const address = hasPipes ? `\\\\.\\pipe\\daemonguard-${randomBytes(16).toString('hex')}` : file
  const previous = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(address, resolve)
    })
  } finally {
    process.umask(previous)
  }
  if (hasPipes) writeAtomic(file, address, label)
}

/** A server for listenAt. `serve` gets a connection whose other side may talk to us. */
export function createEndpoint(serve: (socket: net.Socket) => void): net.Server {
  if (!hasPipes) return net.createServer(serve)
  return net.createServer((socket) => {
    socket.on('error', () => {})
    const greeted = () => {
      const first: Buffer | null = socket.read(1)
      if (first === null) return
      socket.off('readable', greeted)
      if (first[0] === greeting) serve(socket)
      else socket.destroy()
    }
    socket.on('readable', greeted)
  })
}

/** Connects to what listens at `file`; that nobody does is told by the socket's 'error', as net.connect does. */
export function connectTo(file: string): net.Socket {
  if (!hasPipes) return net.connect(file)
  let address: string
  try {
    address = fs.readFileSync(file, 'utf8')
  } catch (error) {
    return new net.Socket().destroy(error as Error)
  }
  const socket = net.connect(address)
  socket.write(Buffer.from([greeting]))
  return socket
}
