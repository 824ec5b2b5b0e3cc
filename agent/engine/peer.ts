/** Who is at the other end of a Unix socket: the kernel tells (SO_PEERCRED, unix(7)), so that nobody can pretend. Linux only. */

import type { Socket } from 'node:net'
import koffi from 'koffi'
import { descriptorOf } from './socket-descriptor.ts'

const SOL_SOCKET = 1
const SO_PEERCRED = 17
/** sizeof(struct ucred): pid, uid, gid. */
const credentialsLength = 12
/** Bytes for a passwd entry's texts. */
const entryLength = 16 * 1024

type Call = (...parameters: unknown[]) => number
type Entry = { pw_name?: string }

let library: { getsockopt: Call; getpwuid: { async: (...parameters: unknown[]) => void } } | undefined

function load() {
  const libc = koffi.load('libc.so.6')
  const texts = { pw_gecos: 'str', pw_dir: 'str', pw_shell: 'str' }
  koffi.struct('passwd', { pw_name: 'str', pw_passwd: 'str', pw_uid: 'uint32_t', pw_gid: 'uint32_t', ...texts })
  return {
    getsockopt: libc.func('int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)') as unknown as Call,
    getpwuid: libc.func('int getpwuid_r(uint32_t uid, _Out_ passwd *entry, void *texts, size_t length, _Out_ void **found)'),
  }
}

/** The system user's name; undefined when the system knows none, or the socket has been closed. */
export async function peerUser(socket: Socket): Promise<string | undefined> {
  if (process.platform !== 'linux') return undefined
  library ??= load()
  const fd = descriptorOf(socket)
  if (fd < 0) return undefined
  const credentials = Buffer.alloc(credentialsLength)
  const length = [credentialsLength]
  if (library.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0 || length[0] !== credentialsLength) return undefined
  return userName(library.getpwuid, credentials.readUInt32LE(4))
}

/** Asks the system's user database, which may be on the network, so on a thread of its own. */
function userName(getpwuid: { async: (...parameters: unknown[]) => void }, uid: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const entry: Entry = {}
    const found: unknown[] = [null]
    const texts = Buffer.alloc(entryLength)
    getpwuid.async(uid, entry, texts, texts.length, found, (error: unknown, code: number) =>
      resolve(error === null && code === 0 && found[0] !== null && texts.length > 0 ? entry.pw_name : undefined),
    )
  })
}
