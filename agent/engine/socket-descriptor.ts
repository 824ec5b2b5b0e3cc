/** The descriptor of a socket. Node does not show it, but there is no other way to ask the kernel about a socket, or to send to several at once. */

import type { Socket } from 'node:net'

/** -1 where there is none: it is closed, or this is Windows. That of an encrypted socket is none that bytes may be put into. */
export function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd?: number } | null })._handle?.fd ?? -1
}
