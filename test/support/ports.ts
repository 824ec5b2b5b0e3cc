/** Free TCP ports. */

import net from 'node:net'

/** A port of 127.0.0.1 that nothing listens on now. Another process may still take it first: whoever starts a server on it tries again. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })
}
