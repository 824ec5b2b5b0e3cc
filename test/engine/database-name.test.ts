// The database has its file's name: also one that schemas beside it have, or that SQL has a meaning for.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TestEngine } from '../support/engine.ts'

const test = suite('database name')

for (const name of ['postgres', 'information', 'select', 'a "b" c']) {
  test(`a file called ${name}.duckdb keeps its tables, and what is acknowledged, over checkpoints and kills`, async () => {
    const engine = await TestEngine.start({ engine: [`database: '${name}.duckdb'`] })
    const tables = "SELECT relname FROM pg_class WHERE relname = 't'"
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)', 'INSERT INTO t VALUES (1)')
    assert.equal(await engine.sql(tables), [['t']])
    await engine.control.checkpoint()
    await engine.sql(`INSERT INTO "${name.replaceAll('"', '""')}".main.t VALUES (2)`)
    await engine.kill()
    await engine.start()
    const { watermark, replayed } = engine.control.hello.recovery
    assert.equal([watermark, replayed], [2, 1])
    assert.equal(await engine.sql('SELECT id FROM t ORDER BY id'), [['1'], ['2']])
    assert.equal(await engine.sql(tables), [['t']])
    await engine.control.shutdown({ checkpoint: true })
    assert.is((await engine.exit()).code, 0)
    await engine.start()
    assert.equal(await engine.sql('SELECT id FROM t ORDER BY id'), [['1'], ['2']])
    await engine.kill()
  })
}

test.run()
