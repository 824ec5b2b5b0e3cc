import { Redis } from 'ioredis'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { startRedis } from '../support/redis.ts'
import { askOverTcp } from '../support/server.ts'

async function withClient<T>(url: string, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, { retryStrategy: null, lazyConnect: true })
  redis.on('error', () => {})
  try {
    await redis.connect()
    return await use(redis)
  } finally {
    redis.disconnect()
  }
}

test('a redis-server with AOF keeps what it acknowledged over kill -9 and a new start on the same port', async () => {
  const server = await startRedis({ appendOnly: true })
  await withClient(server.url, (redis) => redis.set('trade', '553287559'))
  await server.kill()
  assert.not(server.running)
  await server.start()
  assert.is(await withClient(server.url, (redis) => redis.get('trade')), '553287559')
  await server.stop()
})

test('a redis-server without AOF comes back empty after kill -9', async () => {
  const server = await startRedis()
  await withClient(server.url, (redis) => redis.set('trade', '1'))
  await server.kill()
  await server.start()
  assert.is(await withClient(server.url, (redis) => redis.get('trade')), null)
  await server.stop()
})

test('a redis-server with a password refuses a client without it', async () => {
  const server = await startRedis({ password: 'p@ss word' })
  assert.is(await withClient(server.url, (redis) => redis.ping()), 'PONG')
  assert.match(await askOverTcp(server.port, 'GET x\r\n'), /^-NOAUTH/)
  await server.stop()
})

test.run()
