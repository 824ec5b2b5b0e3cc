import { test } from 'uvu'
import { deliveryTests } from '../fixtures/shipper-delivery.ts'
import { shipperRig } from '../fixtures/shipper-rig.ts'
import { tableTests } from '../fixtures/shipper-tables.ts'
import { startChdb } from '../support/chdb.ts'

const rig = shipperRig(test, { name: 'modern ClickHouse', start: () => startChdb(), modern: true, bytes: false })
deliveryTests(test, rig)
tableTests(test, rig)

test.run()
