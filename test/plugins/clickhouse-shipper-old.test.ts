import { test } from 'uvu'
import { deliveryTests } from '../fixtures/shipper-delivery.ts'
import { shipperRig } from '../fixtures/shipper-rig.ts'
import { tableTests } from '../fixtures/shipper-tables.ts'
import { startClickHouse } from '../support/clickhouse.ts'

const rig = shipperRig(test, { name: 'ClickHouse 18.16', start: () => startClickHouse(), modern: false, bytes: true })
deliveryTests(test, rig)
tableTests(test, rig)

test.run()
