import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { generateTrades, loadTrades } from '../support/trades.ts'

test('loaded and generated trades have one shape: 2,001, ids without gaps, times that never go back', async () => {
  for (const trades of [await loadTrades(), generateTrades()]) {
    assert.is(trades.length, 2_001)
    trades.forEach((trade, i) => {
      const previous = trades[i - 1]
      if (previous) {
        assert.is(trade.trade_id, previous.trade_id + 1)
        assert.ok(trade.timestamp >= previous.timestamp)
      }
      assert.ok(trade.price > 30_000 && trade.price < 50_000)
      assert.ok(trade.quantity > 0)
      assert.type(trade.buyer_maker, 'boolean')
    })
    const makers = trades.filter((trade) => trade.buyer_maker).length
    assert.ok(makers > 200 && makers < 1_800)
  }
})

test('generated trades are always the same', () => {
  assert.equal(generateTrades(), generateTrades())
})

test.run()
