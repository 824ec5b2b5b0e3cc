import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { tradeOf } from '../../agent/demo/clients.ts'
import { describeLedger, type FoundRow, newLedger, settle } from '../../agent/demo/ledger.ts'

const ids = [1, 2, 3, 4, 5]
const told = { acknowledged: new Map(ids.map((id) => [id, tradeOf(id)])), halves: 0, arrivedUnseen: 0, connectionsLost: 0 }
const rows = (): FoundRow[] =>
  ids.map(tradeOf).map(({ id, broker, price, quantity }) => ({ trade_id: String(id), broker_id: broker, price, quantity }))

function settled(found: FoundRow[], clients = told) {
  const ledger = newLedger('0.0.0')
  settle(ledger, clients, found)
  return ledger
}

test('rows that are all there, once, with their values leave no problem', () => {
  const ledger = settled(rows())
  assert.equal(ledger.problems, [])
  assert.is(ledger.acknowledged, 5)
  assert.is(ledger.found, 5)
})

test('a missing row is lost', () => {
  const ledger = settled(rows().slice(1))
  assert.is(ledger.lost, 1)
  assert.equal(ledger.problems, ['1 lost'])
})

test('a row that is there twice is a duplicate, even when another one is missing and the count agrees', () => {
  const found = rows()
  found[4] = found[0] as FoundRow
  const ledger = settled(found)
  assert.is(ledger.found, 5)
  assert.is(ledger.duplicated, 1)
  assert.is(ledger.lost, 1)
})

test('a row with another value, and a row that nobody was told of, are problems', () => {
  const found = rows()
  found[0] = { ...(found[0] as FoundRow), price: '0.01' }
  found.push({ trade_id: '99', broker_id: 1, price: '1.00', quantity: '1.0000' })
  assert.equal(settled(found).problems, ['1 altered', '1 unexpected'])
})

test('half a transaction is a problem', () => {
  assert.equal(settled(rows(), { ...told, halves: 2 }).problems, ['2 halves'])
})

test('the words for a ledger that is not ok name each problem', () => {
  const text = describeLedger(settled(rows().slice(1)))
  assert.match(text, /lost +1\n/)
  assert.match(text, /NOT as it should be:\n {2}- 1 lost/)
})

test.run()
