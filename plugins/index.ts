/** The built-in plugins. Nothing else imports one; a local plugin is named in the config by its path and loaded by the agent. */

import type { Plugin } from '../agent/plugin.ts'
import checkpointer from './checkpointer.ts'
import clickhouseShipper from './clickhouse-shipper.ts'
import integrityScanner from './integrity-scanner.ts'
import redisMirror from './redis-mirror.ts'
import watchdog from './watchdog.ts'

/** In the order in which they start. */
export const registry: readonly Plugin[] = [watchdog, checkpointer, integrityScanner, redisMirror, clickhouseShipper] as readonly Plugin[]
