/** The protocol byte by byte: what no well-behaved driver does, or none shows. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  bind,
  close,
  describe,
  errorFields,
  execute,
  message,
  parse,
  query,
  RawClient,
  rowValues,
  startup,
  startupPacket,
  startWire,
  sync,
  typesOf,
  type Wire,
} from '../fixtures/wire.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('protocol')
let wire: Wire
let client: RawClient

test.before(async () => {
  wire = await startWire()
})
test.after(() => wire.stop())
test.before.each(async () => {
  client = await RawClient.ready(wire.port)
})
test.after.each(async () => {
  wire.backend.barrier = () => undefined
  wire.backend.copyGate = undefined
  wire.backend.deafness = 0
  client.destroy()
  await waitFor('every session and row stream to be closed', () => wire.backend.sessions.size === 0 && wire.backend.streams === 0)
})

test('a start asks for encryption in vain, then says who it is and is told the settings', async () => {
  const raw = await RawClient.connect(wire.port)
  const answers: Buffer[] = []
  raw.socket.removeAllListeners('data')
  raw.socket.on('data', (data) => answers.push(data as Buffer))
  raw.send(startupPacket(80877103, () => {}))
  await waitFor('the first N', () => Buffer.concat(answers).toString() === 'N')
  raw.send(
    startupPacket(80877104, () => {}),
    startup({ user: 'me', client_encoding: 'LATIN1', application_name: 'raw' }),
  )
  const text = () => Buffer.concat(answers).toString('latin1')
  await waitFor('ReadyForQuery', () => text().endsWith('Z\0\0\0\x05I'))
  assert.ok(text().startsWith('NNR\0\0\0\x08\0\0\0\0S'))
  for (const setting of [
    'server_version\0' + '15.0 (DaemonGuard test)',
    'client_encoding\0UTF8',
    'DateStyle\0ISO, MDY',
    'integer_datetimes\0on',
    'TimeZone\0UTC',
  ]) {
    assert.ok(text().includes(`${setting}\0`), setting)
  }
  const introduced = wire.backend.clients.at(-1)!
  assert.equal([introduced.user, introduced.database, introduced.applicationName], ['me', 'me', 'raw'])
  raw.destroy()
})

test('a newer minor version and unknown options are negotiated down', async () => {
  const raw = await RawClient.connect(wire.port)
  raw.send(startup({ user: 'me', '_pq_.shiny': 'yes' }, (3 << 16) + 2))
  const [negotiation, ...rest] = await raw.until('Z')
  assert.is(negotiation?.type, 'v')
  assert.is(negotiation?.body.toString('latin1'), '\0\x03\0\0\0\0\0\x01_pq_.shiny\0')
  assert.match(typesOf(rest), /^RS+KZ$/)
  raw.destroy()
})

test('a start that cannot be served is told why', async () => {
  const cases: [Buffer, string][] = [
    [startup({ user: 'me' }, 2 << 16), '0A000'],
    [startup({ database: 'x' }), '28000'],
    [startup({ user: 'me', database: 'nowhere' }), '3D000'],
    [Buffer.from('GET / HTTP/1.1\r\n\r\n'), '08P01'],
    [Buffer.from([0, 0, 0, 4]), '08P01'],
    [Buffer.concat([startup(), Buffer.from([0x51, 0xff, 0xff, 0xff, 0xff])]), '08P01'],
    [startupPacket(3 << 16, (w) => w.cstring('user')), '08P01'],
  ]
  for (const [bytes, code] of cases) {
    const raw = await RawClient.connect(wire.port)
    raw.send(bytes)
    const fields = errorFields((await raw.untilClosed()).find(({ type }) => type === 'E'))
    assert.equal([fields.C, fields.V], [code, 'FATAL'])
  }
})

test('a whole conversation may come in one packet, or byte by byte', async () => {
  const conversation = Buffer.concat([
    parse('s', 'SELECT $1::INTEGER + 1 AS n', [23]),
    describe('S', 's'),
    bind('', 's', ['41']),
    describe('P', ''),
    execute(''),
    close('S', 's'),
    sync,
    query(`SELECT 'a' AS a; ; SELECT NULL AS b`),
    query(''),
  ])
  const expected = '1tT2TDC3Z' + 'TDCTDCZ' + 'IZ'
  client.send(conversation)
  const whole = [...(await client.until('Z')), ...(await client.until('Z')), ...(await client.until('Z'))]
  assert.is(typesOf(whole), expected)
  assert.equal(whole.filter(({ type }) => type === 'D').map(rowValues), [['42'], ['a'], [null]])
  for (const byte of conversation) client.socket.write(Buffer.from([byte]))
  const piecemeal = [...(await client.until('Z')), ...(await client.until('Z')), ...(await client.until('Z'))]
  assert.is(typesOf(piecemeal), expected)
})

test('after an error everything is skipped until Sync, and the implicit transaction is undone', async () => {
  client.send(query('CREATE OR REPLACE TABLE t (a INTEGER)'))
  await client.until('Z')
  client.send(
    parse('', `INSERT INTO t VALUES (1)`),
    bind('', ''),
    execute(''),
    parse('', 'SELECT nonsense'),
    bind('', ''),
    execute(''),
    query('INSERT INTO t VALUES (2)'),
    sync,
    query('SELECT count(*)::INTEGER FROM t'),
  )
  const first = await client.until('Z')
  assert.is(typesOf(first), '12CEZ')
  assert.is(errorFields(first[3]).C, '42703')
  assert.equal(rowValues((await client.until('Z'))[1]!), ['0'])
})

test('an error of the wire fails the transaction block, as one of the engine does', async () => {
  client.send(query('BEGIN'), execute('nosuch'), sync)
  await client.until('Z')
  const answer = await client.until('Z')
  assert.equal([typesOf(answer), errorFields(answer[0]).C, answer[1]?.body.toString()], ['EZ', '34000', 'E'])
  client.send(query('SELECT 1'))
  assert.is(errorFields((await client.until('Z'))[0]).C, '25P02')
  client.send(query('ROLLBACK'))
  assert.is((await client.until('Z')).at(-1)?.body.toString(), 'I')
})

test('statements and portals are told apart by name, and mistakes get their SQLSTATE', async () => {
  const cases: [Buffer[], string][] = [
    [[parse('a', 'SELECT 1'), parse('a', 'SELECT 1')], '42P05'],
    [[bind('', 'missing')], '26000'],
    [[describe('P', 'missing')], '34000'],
    [[parse('', 'SELECT $1::INTEGER'), bind('', '')], '08P01'],
    [[parse('', 'SELECT $1::INTEGER'), bind('', '', ['1'], [0, 0])], '08P01'],
    [[parse('', 'SELECT 1, 2'), bind('', '', [], [], [0, 0, 0])], '08P01'],
    [[parse('', 'SELECT $1::INTEGER', [23]), bind('', '', [Buffer.alloc(3)], [1])], '22P03'],
    [[parse('', 'SELECT 1'), bind('p', ''), bind('p', '')], '42P03'],
    [[parse('', 'CREATE OR REPLACE TABLE x (a INT)'), bind('', ''), execute(''), execute('')], '55000'],
    [[parse('', 'SELECT 1; SELECT 2')], '42601'],
    [[message('P', (w) => w.bytes(Buffer.from([0, 0xc3, 0x28, 0, 0, 0])))], '22021'],
    [[message('Q', (w) => w.bytes(Buffer.from([0xc3, 0x28, 0])))], '22021'],
    [[message('F', (w) => w.int32(0))], '0A000'],
  ]
  for (const [messages, code] of cases) {
    const raw = await RawClient.ready(wire.port)
    raw.send(...messages, sync)
    const error = (await raw.until('Z')).find(({ type }) => type === 'E')
    assert.is(errorFields(error).C, code)
    raw.send(query('SELECT 1'))
    assert.ok(typesOf(await raw.until('Z')).endsWith('Z'))
    raw.destroy()
  }
})

test('a row limit suspends the portal, and it goes on where it stopped, also after Sync in a block', async () => {
  client.send(query('BEGIN'))
  await client.until('Z')
  client.send(
    parse('', 'SELECT i::INTEGER FROM range(5000) t(i)'),
    bind('p', ''),
    execute('p', 2),
    sync,
    execute('p', 2),
    query('SELECT 1'),
    execute('p', 4995),
    execute('p', 2),
    execute('p', 0),
    execute('p', 0),
    sync,
  )
  assert.is(typesOf(await client.until('Z')), '12DDsZ')
  const between = await client.until('Z')
  assert.is(typesOf(between), 'DDsTDCZ')
  assert.equal(between.slice(0, 2).map(rowValues), [['2'], ['3']])
  const rest = await client.until('Z')
  assert.is(typesOf(rest).replace(/D+/, 'D+'), 'D+sDCCCZ')
  assert.equal(
    rest.filter(({ type }) => type === 'C').map(({ body }) => body.toString()),
    ['SELECT 5000\0', 'SELECT 0\0', 'SELECT 0\0'],
  )
  client.send(query('COMMIT'), execute('p'), sync)
  await client.until('Z')
  assert.is(errorFields((await client.until('Z'))[0]).C, '34000')
})

test('a portal ends with its transaction, and its rows are given up', async () => {
  client.send(parse('', 'SELECT i::INTEGER FROM range(5000) t(i)'), bind('p', ''), execute('p', 1), sync, execute('p', 1), sync)
  assert.is(typesOf(await client.until('Z')), '12DsZ')
  assert.is(wire.backend.streams, 0)
  assert.is(errorFields((await client.until('Z'))[0]).C, '34000')
})

test('binary rows and parameters', async () => {
  const int = Buffer.alloc(4)
  int.writeInt32BE(-7)
  client.send(
    parse('', "SELECT $1::INTEGER AS i, $2::VARCHAR AS n, TIMESTAMP '2000-01-01 00:00:01' AS t", [23, 25]),
    bind('', '', [int, null], [1, 0], [1, 0, 1]),
    describe('P', ''),
    execute(''),
    sync,
  )
  const row = (await client.until('Z')).find(({ type }) => type === 'D')!
  assert.is(row.body.toString('hex'), '0003' + '00000004fffffff9' + 'ffffffff' + '00000008' + '00000000000f4240')
})

test('Flush sends what is ready without ending the cycle', async () => {
  client.send(parse('', 'SELECT 1'), message('H'))
  assert.is(typesOf(await client.until('1')), '1')
  client.send(bind('', ''), execute(''), message('H'))
  assert.is(typesOf(await client.until('C')), '2DC')
  client.send(sync)
  await client.until('Z')
})

test('COPY by the extended protocol, with a Sync that comes too early, and data after its failure', async () => {
  const data = (text: string) => message('d', (w) => w.utf8(text))
  client.send(query('CREATE OR REPLACE TABLE c (a INTEGER, b VARCHAR)'))
  await client.until('Z')
  client.send(parse('', 'COPY c FROM STDIN'), bind('', ''), execute(''), sync)
  assert.is(typesOf(await client.until('G')), '12G')
  client.send(data('1\to'), data('ne\n2\ttwo\n'), message('c'), sync)
  assert.is(typesOf(await client.until('Z')), 'CZ')
  // All in one packet, failing at the second row: the rest is ignored, and the session goes on.
  client.send(
    query('COPY c FROM STDIN; SELECT 1'),
    data('3\tx\n4\n'),
    data('5\ty\n'),
    message('c'),
    query('SELECT count(*)::INTEGER FROM c'),
  )
  const failed = await client.until('Z')
  assert.equal([typesOf(failed), errorFields(failed[1]).C], ['GEZ', '22P04'])
  assert.equal(rowValues((await client.until('Z'))[1]!), ['2'])
  client.send(query('COPY c FROM STDIN; SELECT 7'), data('3\tx\n'), message('c'))
  assert.is(typesOf(await client.until('Z')), 'GCTDCZ')
  client.send(
    query('COPY c FROM STDIN'),
    data('9\tx\n'),
    message('f', (w) => w.cstring('changed my mind')),
  )
  const gaveUp = await client.until('Z')
  assert.equal([typesOf(gaveUp), errorFields(gaveUp[1]).C], ['GEZ', '57014'])
})

test.run()
