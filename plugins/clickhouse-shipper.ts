/**
 * clickhouse-shipper: the whole history of all hosts in ClickHouse. A consumer of the journal: every committed row, exactly once, online or not.
 * clickhouse-shipper/target.ts describes the tables, types.ts the types.
 */

import { z } from 'zod'
import { tableSelector } from '../agent/delivery.ts'
import { definePlugin } from '../agent/plugin.ts'
import { duration, secret, url } from '../agent/values.ts'

export default definePlugin({
  name: 'clickhouse-shipper',
  options: z.strictObject({
    url: url('http', 'https').default('http://127.0.0.1:8123'),
    database: z.string().min(1).default('default'),
    username: z.string().min(1).optional(),
    password: secret().optional(),
    tables: z.array(z.string().min(1)).default(['*']),
    batch: z.strictObject({ rows: z.int().min(1).max(1_000_000).default(50_000), max_delay: duration().prefault('1s') }).prefault({}),
    backoff: z
      .array(duration({ min: '1ms' }))
      .min(1)
      .prefault(['5s', '15s', '30s', '60s']),
    max_retries: z.int().min(0).default(5),
    history: z.boolean().default(false),
  }),
  async start(context, options) {
    // Only where it runs: its library takes a megabyte.
    const { Shipper } = await import('./clickhouse-shipper/shipper.ts')
    const shipper = new Shipper(context, { ...options, selected: tableSelector(options.tables) })
    shipper.start()
    return { health: () => shipper.health(), stop: () => shipper.stop() }
  },
})
