/** SCRAM-SHA-256: the exchange of RFC 7677, verifiers as Postgres writes them, and messages that are not what they should be. */

import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { mechanisms, ScramExchange } from '../../agent/engine/pgwire/scram.ts'
import { SqlError } from '../../agent/engine/sql-error.ts'
import { formatVerifier, looksLikeVerifier, makeVerifier, parseVerifier } from '../../agent/verifier.ts'
import { seededRandom } from '../support/random.ts'

const test = suite('scram')

const binding = Buffer.from('the hash of a certificate')
const verifier = await makeVerifier('pencil', { salt: Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64') })

interface Client {
  password?: string
  mechanism?: string
  header?: string
  binding?: Buffer
}

/** A client's half, as RFC 5802 has it. Returns the server's last message. */
function logIn(
  exchange: ScramExchange,
  { password = 'pencil', mechanism = 'SCRAM-SHA-256', header = 'n', binding = Buffer.alloc(0) }: Client,
) {
  const bare = 'n=user,r=rOprNGfwEbeRWgbNEkqO'
  const serverFirst = exchange.first(mechanism, Buffer.from(`${header},,${bare}`)).toString()
  const [, nonce, salt, iterations] = /^r=(.*),s=(.*),i=(\d+)$/.exec(serverFirst)!
  assert.ok(nonce!.startsWith('rOprNGfwEbeRWgbNEkqO') && nonce!.length > 40)
  const salted = pbkdf2Sync(password, Buffer.from(salt!, 'base64'), Number(iterations), 32, 'sha256')
  const channel = Buffer.concat([Buffer.from(`${header},,`), binding]).toString('base64')
  const withoutProof = `c=${channel},r=${nonce}`
  const key = createHmac('sha256', salted).update('Client Key').digest()
  const signature = createHmac('sha256', createHash('sha256').update(key).digest())
    .update(`${bare},${serverFirst},${withoutProof}`)
    .digest()
  const proof = Buffer.from(key.map((byte, i) => byte ^ signature[i]!)).toString('base64')
  const last = exchange.final(Buffer.from(`${withoutProof},p=${proof}`))?.toString()
  const server = createHmac('sha256', createHmac('sha256', salted).update('Server Key').digest())
  if (last !== undefined) assert.is(last, `v=${server.update(`${bare},${serverFirst},${withoutProof}`).digest('base64')}`)
  return last
}

function codeOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof SqlError) return `${error.severity} ${error.code}`
    throw error
  }
  return 'none'
}

test('a verifier is Postgres’ own: written as it writes it, read as it is written', async () => {
  const text = formatVerifier(verifier)
  assert.match(text, /^SCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$[\w+/]{43}=:[\w+/]{43}=$/)
  assert.equal(parseVerifier(text), verifier)
  assert.ok(looksLikeVerifier(text))
  for (const bad of ['', 'md5abc', text.slice(0, -1), `${text}x`, text.replace('4096', '0'), text.replace('$4096', '$-1'), `x${text}`])
    assert.is(parseVerifier(bad), undefined, bad)
  // The example of RFC 7677, section 3.
  const nonce = 'rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0'
  const messages = `n=user,r=rOprNGfwEbeRWgbNEkqO,r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=${nonce}`
  const signature = createHmac('sha256', verifier.serverKey).update(messages).digest('base64')
  assert.is(signature, '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=')
})

test('passwords are prepared by SASLprep, and those that it refuses are taken as they are', async () => {
  const salt = Buffer.alloc(16)
  const same = async (a: string, b: string) => assert.equal(await makeVerifier(a, { salt }), await makeVerifier(b, { salt }), a)
  await same('I\u00adX', 'IX')
  await same('\u00aa', 'a')
  await same('\u2168', 'IX')
  await same('a\u00a0b', 'a b')
  const raw = (password: string) => pbkdf2Sync(password, salt, 4096, 32, 'sha256')
  for (const refused of ['\u2168\u0007', '\u0627\u0031', '\u00ad', 'x\ufdd0\u2168']) {
    const stored = createHash('sha256')
      .update(createHmac('sha256', raw(refused)).update('Client Key').digest())
      .digest()
    assert.equal((await makeVerifier(refused, { salt })).storedKey, stored, JSON.stringify(refused))
  }
})

test('the right password is accepted and proved to the client, a wrong one is not', () => {
  assert.ok(logIn(new ScramExchange(verifier, undefined), {}))
  assert.ok(logIn(new ScramExchange(verifier, undefined), { header: 'y' }))
  assert.is(logIn(new ScramExchange(verifier, undefined), { password: 'pencils' }), undefined)
  assert.equal(mechanisms(undefined), ['SCRAM-SHA-256'])
})

test('channel binding ties the exchange to the certificate, and cannot be talked away', () => {
  const plus = { mechanism: 'SCRAM-SHA-256-PLUS', header: 'p=tls-server-end-point' }
  const exchange = () => new ScramExchange(verifier, binding)
  assert.equal(mechanisms(binding), ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'])
  assert.ok(logIn(exchange(), { ...plus, binding }))
  assert.ok(logIn(exchange(), {}), 'a client that knows no channel binding')
  assert.is(
    codeOf(() => logIn(exchange(), { ...plus, binding: Buffer.from('another certificate') })),
    'FATAL 28000',
  )
  assert.is(
    codeOf(() => logIn(exchange(), { header: 'y' })),
    'FATAL 28000',
  )
  assert.is(
    codeOf(() => logIn(exchange(), { ...plus, header: 'n' })),
    'FATAL 08P01',
  )
  assert.is(
    codeOf(() => logIn(exchange(), { ...plus, header: 'p=tls-unique' })),
    'FATAL 0A000',
  )
  assert.is(
    codeOf(() => logIn(exchange(), { header: 'p=tls-server-end-point' })),
    'FATAL 08P01',
  )
  assert.is(
    codeOf(() => logIn(new ScramExchange(verifier, undefined), plus)),
    'FATAL 08P01',
  )
})

test('messages that are not SCRAM are refused, never taken for a right password', () => {
  const first = (text: string) => codeOf(() => new ScramExchange(verifier, undefined).first('SCRAM-SHA-256', Buffer.from(text)))
  for (const text of ['', 'n', 'n,,', 'n,,n=', 'n,,n=x', 'n,,r=abc', 'n,,n=,r=', 'n,,n=,r=a b', 'x,,n=,r=abc', ',,n=,r=abc', 'n,n=,r=abc'])
    assert.is(first(text), 'FATAL 08P01', text)
  assert.is(first('n,a=other,n=,r=abc'), 'FATAL 0A000')
  assert.is(first('n,,m=ext,n=,r=abc'), 'FATAL 0A000')
  assert.is(
    codeOf(() => new ScramExchange(verifier, undefined).first('PLAIN', Buffer.from('n,,n=,r=a'))),
    'FATAL 08P01',
  )

  const random = seededRandom('scram')
  for (let round = 0; round < 2_000; round++) {
    const exchange = new ScramExchange(verifier, undefined)
    const nonce = /^r=([^,]*)/.exec(exchange.first('SCRAM-SHA-256', Buffer.from('n,,n=,r=abc')).toString())![1]
    const good = `c=biws,r=${nonce},p=${Buffer.from(random.bytes(32)).toString('base64')}`
    const bytes = Buffer.from(good)
    for (let changes = random.int(0, 4); changes > 0; changes--) bytes[random.int(0, bytes.length - 1)] = random.int(0, 255)
    const cut = bytes.subarray(0, random.chance(0.2) ? random.int(0, bytes.length) : bytes.length)
    try {
      assert.is(exchange.final(cut), undefined)
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
    }
  }
  for (const text of ['', 'c=biws', 'c=biws,r=abc,p=AAAA', 'p=AAAA'])
    assert.ok(
      codeOf(() => {
        const exchange = new ScramExchange(verifier, undefined)
        exchange.first('SCRAM-SHA-256', Buffer.from('n,,n=,r=abc'))
        exchange.final(Buffer.from(text))
      }).startsWith('FATAL'),
    )
})

test.run()
