import { version } from '../runtime.ts'
import { duckdbVersion } from './duckdb.ts'

/** As drivers and tools read it: Postgres' number first. */
export const serverVersion = `PostgreSQL 15.0 (DaemonGuard ${version}, DuckDB ${duckdbVersion()})`
