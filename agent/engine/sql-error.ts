/** The one error class that reaches a SQL client: what ErrorResponse needs, free of the wire and of DuckDB. */

export interface SqlErrorDetails {
  /** What to do next, for the person at the client. */
  hint?: string
  detail?: string
  /** Where in the SQL text: characters, from 1. */
  position?: number
  /** Function of PostgreSQL's that would tell it: drivers know some errors by that alone. */
  routine?: string
  /** FATAL ends the connection after the message. Default: ERROR. */
  severity?: 'ERROR' | 'FATAL'
  cause?: unknown
}

/** An error with an SQLSTATE (five characters, PostgreSQL's Appendix A). */
export class SqlError extends Error {
  readonly code: string
  readonly severity: 'ERROR' | 'FATAL'
  readonly hint: string | undefined
  readonly detail: string | undefined
  readonly position: number | undefined
  readonly routine: string | undefined

  constructor(code: string, message: string, details: SqlErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'SqlError'
    this.code = code
    this.severity = details.severity ?? 'ERROR'
    this.hint = details.hint
    this.detail = details.detail
    this.position = details.position
    this.routine = details.routine
  }
}

/** 08P01: the client broke the wire protocol; its connection ends. */
export function protocolViolation(message: string): SqlError {
  return new SqlError('08P01', message, { severity: 'FATAL' })
}
