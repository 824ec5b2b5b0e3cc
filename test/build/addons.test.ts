import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type Addon, assetKey, cacheDirectories, loadAddon, unpackAddon } from '../../build/addons.ts'
import { temporaryDirectory } from '../support/temp.ts'

const contents: Record<string, Buffer> = { 'a.node': Buffer.from('first file'), 'liba.so': Buffer.alloc(3_000_000, 7) }

function addonOf(name: string, files: Record<string, Buffer>): Addon {
  return {
    name,
    files: Object.entries(files).map(([file, content]) => ({
      name: file,
      size: content.length,
      sha256: createHash('sha256').update(content).digest('hex'),
      crc32: crc32(content),
    })),
  }
}

/** An executable's assets, and how often they were read. */
function assetsOf(name: string, files: Record<string, Buffer>): { read(key: string): Uint8Array; reads: string[] } {
  const reads: string[] = []
  const byKey = new Map(Object.entries(files).map(([file, content]) => [assetKey(name, file), content]))
  return {
    reads,
    read(key) {
      reads.push(key)
      const content = byKey.get(key)
      if (content === undefined) throw new Error(`no asset ${key}`)
      return content
    },
  }
}

test('an addon is unpacked at the first start only, for its owner only', () => {
  const cache = path.join(temporaryDirectory(), 'cache')
  const assets = assetsOf('a', contents)
  const directory = unpackAddon(addonOf('a', contents), cache, assets.read)
  assert.equal(fs.readFileSync(path.join(directory, 'liba.so')), contents['liba.so'])
  assert.is(fs.statSync(directory).mode & 0o777, 0o700)
  assert.is(fs.statSync(cache).mode & 0o777, 0o700)
  assert.is(assets.reads.length, 2)
  assert.is(unpackAddon(addonOf('a', contents), cache, assets.read), directory)
  assert.is(assets.reads.length, 2)
  assert.equal(fs.readdirSync(directory).sort(), ['a.node', 'liba.so'])
})

test('another version of an addon goes to another directory', () => {
  const cache = temporaryDirectory()
  const other = { ...contents, 'a.node': Buffer.from('second file') }
  const first = unpackAddon(addonOf('a', contents), cache, assetsOf('a', contents).read)
  assert.is.not(unpackAddon(addonOf('a', other), cache, assetsOf('a', other).read), first)
})

test('a file that has rotted, was cut off, or was replaced by a link is unpacked again', () => {
  const cache = temporaryDirectory()
  const addon = addonOf('a', contents)
  const assets = assetsOf('a', contents)
  const library = path.join(unpackAddon(addon, cache, assets.read), 'liba.so')
  const spoilers: (() => void)[] = [
    () => fs.writeSync(fs.openSync(library, 'r+'), 'x', 2_999_999),
    () => fs.truncateSync(library, 1000),
    () => {
      fs.renameSync(library, `${cache}/elsewhere`)
      fs.symlinkSync(`${cache}/elsewhere`, library)
    },
  ]
  for (const spoil of spoilers) {
    spoil()
    unpackAddon(addon, cache, assets.read)
    assert.ok(fs.lstatSync(library).isFile())
    assert.equal(fs.readFileSync(library), contents['liba.so'])
  }
  assert.is(assets.reads.filter((key) => key.endsWith('liba.so')).length, 1 + spoilers.length)
})

test('a cache that others may write to, or that is a link, is not used', () => {
  const open = temporaryDirectory()
  fs.chmodSync(open, 0o777)
  assert.throws(() => unpackAddon(addonOf('a', contents), open, assetsOf('a', contents).read), /others may write/)
  const directory = temporaryDirectory()
  fs.mkdirSync(`${directory}/real`, { mode: 0o700 })
  fs.symlinkSync(`${directory}/real`, `${directory}/link`)
  assert.throws(() => unpackAddon(addonOf('a', contents), `${directory}/link`, assetsOf('a', contents).read), /not a directory/)
})

test('an executable whose own copy is damaged says so', () => {
  const assets = assetsOf('a', { ...contents, 'a.node': Buffer.from('rotten') })
  assert.throws(() => unpackAddon(addonOf('a', contents), temporaryDirectory(), assets.read), /own copy of a.node is damaged/)
})

test('the cache of the service comes first, then that of the user, then a directory of the user in /tmp', () => {
  const [service, user, temporary] = cacheDirectories({
    CACHE_DIRECTORY: '/var/cache/daemonguard:/other',
    XDG_CACHE_HOME: '/home/u/.cache',
  })
  assert.is(service, '/var/cache/daemonguard')
  assert.is(user, '/home/u/.cache/daemonguard')
  assert.match(temporary ?? '', /daemonguard-\d+$/)
  assert.is(
    cacheDirectories({ XDG_CACHE_HOME: 'relative' }).some((directory) => directory.startsWith('relative')),
    false,
  )
})

test('a real addon loads from the first cache that can be used; when none can, the error names each and says what to type', () => {
  const content = fs.readFileSync(`node_modules/@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`)
  const files = { 'koffi.node': content }
  const directory = temporaryDirectory()
  fs.writeFileSync(`${directory}/file`, '')
  const before = { ...process.env }
  try {
    process.env.CACHE_DIRECTORY = `${directory}/file`
    process.env.XDG_CACHE_HOME = `${directory}/user`
    const koffi = loadAddon(addonOf('koffi', files), assetsOf('koffi', files).read) as { version: string }
    assert.match(koffi.version, /^3\./)
    assert.is(fs.readdirSync(`${directory}/user/daemonguard`).length, 1)
    process.env.TMPDIR = `${directory}/file`
    process.env.XDG_CACHE_HOME = `${directory}/file`
    assert.throws(
      () => loadAddon(addonOf('koffi', files), assetsOf('koffi', files).read),
      (error: Error & { where: string; hint: string }) => error.where.split('; ').length === 3 && error.hint.includes('XDG_CACHE_HOME='),
    )
  } finally {
    process.env = before
  }
})

test.run()
