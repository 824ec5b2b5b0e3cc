import { test } from 'uvu'
import { startChdb } from '../support/chdb.ts'
import { defineShipperTests } from '../fixtures/shipper-suite.ts'

defineShipperTests(test, { name: 'modern ClickHouse', start: () => startChdb(), modern: true, bytes: false })

test.run()
