// deadline: 240s
// What lies on the disk is for its owner only, whatever the umask; and a secret out of the environment lies nowhere.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Guarded, patience } from '../fault/support/guarded.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('safekeeping')

const password = 'correct-horse-battery-staple'

/** Every file and directory below, with its mode, as `drwxr-x--- path`. */
function walk(directory: string, kinds: Record<string, number>): string[] {
  return fs.readdirSync(directory, { recursive: true, encoding: 'utf8' }).flatMap((name) => {
    const stat = fs.lstatSync(path.join(directory, name), { throwIfNoEntry: false })
    if (stat === undefined) return [] // a temporary file that has been renamed meanwhile
    const kind = stat.isDirectory() ? 'directory' : stat.isSocket() ? 'socket' : 'file'
    kinds[kind] = (kinds[kind] ?? 0) + 1
    // Postgres' socket is for the group of its directory as well.
    const allowed = kind === 'directory' ? 0o700 : /^\.s\.PGSQL\.\d+$/.test(name) ? 0o660 : 0o600
    return (stat.mode & 0o777 & ~allowed) === 0 ? [] : [`${kind} ${name}: ${(stat.mode & 0o777).toString(8)}`]
  })
}

test('after work, kills, checkpoints and snapshots no file is wider than 0600, no directory than 0700, and none holds the password', async () => {
  process.env.DG_TEST_PASSWORD = password
  process.env.PGPASSWORD = password
  const before = process.umask(0)
  const auth = '{ method: scram-sha-256, users: [{ name: trader, password: "${DG_TEST_PASSWORD}" }] }'
  const guarded = await Guarded.prepare({
    engine: [`auth: ${auth}`],
    plugins: ['redis-mirror: { url: "redis://127.0.0.1:1" }', 'watchdog: { schedule: "* * * * * *" }'],
  })
  try {
    await guarded.start()
    await guarded.sql(
      'CREATE TABLE trades (id BIGINT PRIMARY KEY, price DOUBLE)',
      'INSERT INTO trades SELECT range, range FROM range(20000)',
    )
    for (const command of ['checkpoint', 'snapshot', 'scan', 'status']) {
      const { code, stdout, stderr } = await guarded.command(command)
      assert.ok([0, 1].includes(code as number), `${command}: ${stdout}${stderr}`)
      assert.not.ok((stdout + stderr).includes(password), command)
    }
    await guarded.sql('PRAGMA wal_autocheckpoint = 50; INSERT INTO trades VALUES (-1, 0)')
    await guarded.killEngine()
    const restarted = Date.now()
    await waitFor('the engine is back', async () => (await guarded.sql('SELECT 1')).length === 1, { deadline: patience })
    await guarded.until('the watchdog has probed', ({ plugins }) =>
      plugins.some(({ name, healthy, facts }) => name === 'watchdog' && healthy && Number(facts.lastProbeAt) > restarted),
    )

    const kinds: Record<string, number> = {}
    assert.equal(walk(guarded.data, kinds), [])
    assert.ok(kinds.file! > 8 && kinds.directory! > 3 && kinds.socket! >= 2, JSON.stringify(kinds))
    assert.is(fs.statSync(guarded.data).mode & 0o777, 0o700)

    const told = [
      JSON.stringify(await guarded.status()),
      guarded.agent!.output(),
      fs.readFileSync(`/proc/${guarded.enginePid()}/cmdline`, 'utf8'),
    ]
    for (const name of fs.readdirSync(guarded.data, { recursive: true, encoding: 'utf8' })) {
      const file = path.join(guarded.data, name)
      if (fs.lstatSync(file, { throwIfNoEntry: false })?.isFile()) told.push(fs.readFileSync(file, 'latin1'))
    }
    assert.not.ok(told.some((text) => text.includes(password)))
  } finally {
    process.umask(before)
    await guarded.stop()
  }
})

test.run()
