import { test } from 'uvu'
import { defineShipperTests } from '../fixtures/shipper-suite.ts'
import { startClickHouse } from '../support/clickhouse.ts'

defineShipperTests(test, { name: 'ClickHouse 18.16', start: () => startClickHouse(), modern: false, bytes: true })

test.run()
