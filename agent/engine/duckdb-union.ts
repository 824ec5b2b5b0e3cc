/**
 * A mend of the addon's: of a UNION value that is NULL it sets the members to NULL, and leaves the value itself as it was, so that it is none that IS NULL to DuckDB
 * (`DuckDBUnionVector.setItem` of @duckdb/node-api 1.5.5-r.5). What it is kept in is a STRUCT, which does it right.
 */

import { type DuckDBStructValue, DuckDBUnionVector } from '@duckdb/node-api'

interface Inner {
  readonly structVector: { setItem(index: number, value: DuckDBStructValue | null): void }
}

const { setItem } = DuckDBUnionVector.prototype

DuckDBUnionVector.prototype.setItem = function (index, value) {
  if (value === null) (this as unknown as Inner).structVector.setItem(index, null)
  else setItem.call(this, index, value)
}
