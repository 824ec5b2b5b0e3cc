/** The keys of `agent` and `engine`, and their defaults: the public contract of config.yaml. Plugins bring their own schemas. */

import os from 'node:os'
import path from 'node:path'
import { z } from 'zod'
import { type Address, duration, filePath, isLoopback, listenAddress, size, url } from '../values.ts'
import { authShape } from './access.ts'
import type { Environment } from './expand.ts'
import { quietHours } from './quiet-hours.ts'

/** A section that may be missing or left empty (`agent:` with every key commented out). */
function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.preprocess((value) => value ?? {}, z.strictObject(shape))
}

/** Where data lies unless the config says otherwise. */
export function defaultDataDirectory(env: Environment, platform: NodeJS.Platform): string {
  return platform === 'win32' ? path.win32.join(env.ProgramData ?? 'C:\\ProgramData', 'DaemonGuard', 'data') : '/var/lib/daemonguard'
}

const nameHint = 'use letters, digits, dots, dashes and underscores, at most 100'

/** The machine's name, as far as it can be part of a Redis key. `HOSTNAME` is not set in most services. */
function hostName(): string {
  return (
    os
      .hostname()
      .replace(/[^\w.-]/g, '-')
      .slice(0, 100) || 'host'
  )
}

const loopbackOnly = (message: string, hint: string) => (ctx: z.core.ParsePayload<Address>) => {
  if (isLoopback(ctx.value.host)) return
  ctx.issues.push({ code: 'custom', message, input: ctx.value, params: { hint } })
}

/** `webhook` or `exec`, one of them. */
const alert = z
  .strictObject({
    webhook: url('http', 'https').optional(),
    exec: z.array(z.string().min(1)).min(1).optional(),
  })
  .transform((value, ctx): { webhook: string } | { exec: string[] } => {
    if (value.webhook !== undefined && value.exec === undefined) return { webhook: value.webhook }
    if (value.exec !== undefined && value.webhook === undefined) return { exec: value.exec }
    ctx.issues.push({
      code: 'custom',
      message: value.webhook === undefined ? 'expected webhook or exec' : 'both webhook and exec in one entry',
      input: value,
      params: { hint: 'write one of them an entry: "- webhook: https://…" or "- exec: [cmd, arg]"' },
    })
    return z.NEVER
  })

/** The schema of everything but the plugins' options. */
export function coreSchema(env: Environment, platform: NodeJS.Platform) {
  return z.preprocess(
    (value) => value ?? {},
    z.strictObject({
      agent: section({
        name: z
          .string()
          .refine((name) => /^[\w.-]{1,100}$/.test(name), { error: 'not a name for a host', params: { hint: nameHint } })
          .default(hostName),
        data_dir: filePath().default(() => defaultDataDirectory(env, platform)),
        listen: listenAddress()
          .check(
            loopbackOnly(
              'the status page has no password: it must not be reachable from other machines',
              'write 127.0.0.1 as its host; from elsewhere use a tunnel: ssh -L 7788:127.0.0.1:7788 HOST',
            ),
          )
          .prefault('127.0.0.1:7788'),
        log: section({
          level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info'),
          format: z.enum(['json', 'pretty']).optional(),
        }),
        alerts: z.array(alert).default([]),
        quiet_hours: z.array(quietHours()).default([]),
      }),
      engine: section({
        database: filePath().default('trade_data.duckdb'),
        listen: listenAddress().prefault('127.0.0.1:5433'),
        socket_dir: filePath().nullable().optional(),
        journal_dir: filePath().default('journal'),
        auth: section(authShape),
        tls: z.strictObject({ cert: filePath(), key: filePath() }).nullable().default(null),
        schema: filePath().nullable().default(null),
        cpu_cores: z.int().min(1).max(1024).default(2),
        memory: size({ min: '1MB' }).prefault('4GB'),
        write_buffer: section({
          rows: z.int().min(1).max(1_000_000).default(100),
          max_delay: duration({ max: '10s' }).prefault('2ms'),
        }),
        max_connections: z.int().min(1).max(10_000).default(100),
        idle_in_transaction_timeout: duration({ min: '1ms' }).prefault('60s'),
        blocked_checkpoint_timeout: duration({ min: '1ms' }).prefault('5m'),
        external_access: z.boolean().default(false),
      }),
      plugins: z.unknown().optional(),
    }),
  )
}

export type Core = z.output<ReturnType<typeof coreSchema>>
