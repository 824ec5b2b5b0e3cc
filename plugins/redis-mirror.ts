/**
 * redis-mirror: the live state of the last hour in Redis. A consumer of the journal: every committed row image, the stream of
 * changes and a watermark, each exactly once. redis-mirror/row.ts describes the keys.
 */

import { z } from 'zod'
import { tableSelector } from '../agent/delivery.ts'
import { definePlugin } from '../agent/plugin.ts'
import { duration, url } from '../agent/values.ts'

export default definePlugin({
  name: 'redis-mirror',
  options: z.strictObject({
    url: url('redis', 'rediss').default('redis://127.0.0.1:6379'),
    retention: duration({ min: '1s' }).prefault('1h'),
    tables: z.array(z.string().min(1)).default(['*']),
  }),
  async start(context, options) {
    // Only where it runs: its library takes 5 MB.
    const { Mirror } = await import('./redis-mirror/mirror.ts')
    const mirror = new Mirror(context, { url: options.url, retention: options.retention, selected: tableSelector(options.tables) })
    mirror.start()
    return { health: () => mirror.health(), stop: () => mirror.stop() }
  },
})
