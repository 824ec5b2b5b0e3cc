// needs: shellcheck, curl
/** install.sh where no systemd and no root are needed: --root and --dry-run. The service itself is tested in a booted container. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'

const script = path.resolve('install.sh')

/** A stand-in that answers --version: what install.sh asks of an executable before it takes it. */
function executable(version: string, exit = 0): string {
  const file = path.join(temporaryDirectory(), 'daemonguard')
  fs.writeFileSync(file, `#!/bin/sh\necho ${version}\nexit ${exit}\n`, { mode: 0o755 })
  return file
}

function install(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return runChild('/bin/sh', [script, ...args])
}

function mode(file: string): number {
  return fs.statSync(file).mode & 0o777
}

test('it puts program, configuration, data directory and unit where they belong, with their modes', async () => {
  const root = temporaryDirectory()
  const { code, stdout, stderr } = await install('--root', root, executable('1.2.3'))
  assert.is(code, 0, stderr)
  assert.match(stdout, /version 1\.2\.3/)
  assert.is(mode(`${root}/usr/local/bin/daemonguard`), 0o755)
  assert.is(mode(`${root}/var/lib/daemonguard`), 0o700)
  assert.is(mode(`${root}/etc/daemonguard/config.yaml`), 0o640)
  assert.match(fs.readFileSync(`${root}/etc/daemonguard/config.yaml`, 'utf8'), /data_dir: \/var\/lib\/daemonguard\n/)
  assert.equal(fs.readFileSync(`${root}/etc/systemd/system/daemonguard.service`), fs.readFileSync('build/daemonguard.service'))
  assert.equal(fs.readdirSync(`${root}/usr/local/bin`), ['daemonguard'])
})

test('without root it goes to the places of the user who runs it, with a unit of their own', async () => {
  const home = temporaryDirectory()
  const file = executable('1.2.3')
  const nobody = process.getuid?.() === 0 ? ['runuser', '-u', 'nobody', '--'] : []
  if (nobody.length > 0) {
    for (const place of [home, path.dirname(file)]) fs.chmodSync(place, 0o777)
    // Of root alone: nobody could not go through it.
    for (let place = path.dirname(home); place !== '/'; place = path.dirname(place)) fs.chmodSync(place, fs.statSync(place).mode | 0o111)
  }
  const environment = ['env', '-i', `PATH=${process.env.PATH}`, `HOME=${home}`, `XDG_RUNTIME_DIR=${home}/run`]
  const local = path.join(path.dirname(file), 'install.sh')
  fs.copyFileSync(script, local)
  fs.copyFileSync('build/daemonguard.service', path.join(path.dirname(file), 'daemonguard.service'))
  const [program = '', ...rest] = [...nobody, ...environment, '/bin/sh', local]
  const { code, stdout, stderr } = await runChild(program, [...rest, file])
  assert.is(code, 0, stderr)
  assert.match(stdout, `${home}/.local/bin/daemonguard run -c ${home}/.config/daemonguard/config.yaml`)
  assert.is(mode(`${home}/.local/share/daemonguard`), 0o700)
  assert.is(mode(`${home}/.config/daemonguard`), 0o700)
  const config = fs.readFileSync(`${home}/.config/daemonguard/config.yaml`, 'utf8')
  assert.match(config, `data_dir: ${home}/.local/share/daemonguard\n`)
  assert.match(config, `socket_dir: ${home}/run/daemonguard\n`)
  const unit = fs.readFileSync(`${home}/.config/systemd/user/daemonguard.service`, 'utf8')
  assert.match(unit, `ExecStart=${home}/.local/bin/daemonguard run -c ${home}/.config/daemonguard/config.yaml\n`)
  assert.match(unit, 'WantedBy=default.target')
  assert.not.match(unit, /\/etc\/daemonguard|\/usr\/local|^(User|Group|StateDirectory|Protect\w+|CapabilityBoundingSet)=/m)
  const removed = await runChild(program, [...rest, '--uninstall', '--purge', '--dry-run'])
  assert.match(removed.stdout, `rm -rf ${home}/.local/share/daemonguard ${home}/.config/daemonguard\n`)
})

test('run again it replaces the program and leaves the configuration alone', async () => {
  const root = temporaryDirectory()
  await install('--root', root, executable('1.0.0'))
  fs.writeFileSync(`${root}/etc/daemonguard/config.yaml`, 'mine')
  const { code, stdout } = await install(`--root=${root}`, executable('2.0.0'))
  assert.is(code, 0)
  assert.match(stdout, /kept: .*config\.yaml/)
  assert.is(fs.readFileSync(`${root}/etc/daemonguard/config.yaml`, 'utf8'), 'mine')
  assert.match(fs.readFileSync(`${root}/usr/local/bin/daemonguard`, 'utf8'), /2\.0\.0/)
})

test('a program that does not run here replaces nothing and leaves nothing behind', async () => {
  const root = temporaryDirectory()
  await install('--root', root, executable('1.0.0'))
  const { code, stderr } = await install('--root', root, executable('2.0.0', 1))
  assert.is(code, 1)
  assert.match(stderr, /does not run on this machine/)
  assert.match(fs.readFileSync(`${root}/usr/local/bin/daemonguard`, 'utf8'), /1\.0\.0/)
  assert.equal(fs.readdirSync(`${root}/usr/local/bin`), ['daemonguard'])
})

test('a program that is not the one its SHA256SUMS names is refused', async () => {
  const file = executable('1.0.0')
  fs.writeFileSync(path.join(path.dirname(file), 'SHA256SUMS'), `${'0'.repeat(64)}  daemonguard\n`)
  const root = temporaryDirectory()
  const { code, stderr } = await install('--root', root, file)
  assert.is(code, 1)
  assert.match(stderr, /is not the file that .*SHA256SUMS names/)
  assert.equal(fs.readdirSync(root), [])
})

test('a program comes from a URL too, if its checksum is given and right', async () => {
  const content = '#!/bin/sh\necho 3.2.1\n'
  const server = http.createServer((_request, response) => response.end(content)).listen(0, '127.0.0.1')
  try {
    await once(server, 'listening')
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/daemonguard`
    const root = temporaryDirectory()
    const without = await install('--root', root, url)
    assert.is(without.code, 2)
    assert.match(without.stderr, /needs --sha256/)
    const wrong = await install('--root', root, url, '--sha256', '0'.repeat(64))
    assert.is(wrong.code, 1)
    assert.match(wrong.stderr, /is not the file that --sha256 names/)
    assert.equal(fs.readdirSync(root), [])
    const right = await install('--root', root, url, '--sha256', createHash('sha256').update(content).digest('hex'))
    assert.is(right.code, 0, right.stderr)
    assert.match(right.stdout, /version 3\.2\.1/)
  } finally {
    server.close()
  }
})

test('shellcheck finds nothing in it', async () => {
  const { code, stdout } = await runChild('shellcheck', ['--shell=sh', script])
  assert.is(code, 0, stdout)
})

test('uninstalling keeps data and configuration unless told to purge', async () => {
  const root = temporaryDirectory()
  await install('--root', root, executable('1.0.0'))
  fs.writeFileSync(`${root}/var/lib/daemonguard/trade_data.duckdb`, 'rows')
  const kept = await install('--root', root, '--uninstall')
  assert.is(kept.code, 0, kept.stderr)
  assert.not(fs.existsSync(`${root}/usr/local/bin/daemonguard`))
  assert.not(fs.existsSync(`${root}/etc/systemd/system/daemonguard.service`))
  assert.ok(fs.existsSync(`${root}/var/lib/daemonguard/trade_data.duckdb`))
  assert.ok(fs.existsSync(`${root}/etc/daemonguard/config.yaml`))
  const purged = await install('--root', root, '--uninstall', '--purge')
  assert.is(purged.code, 0, purged.stderr)
  assert.not(fs.existsSync(`${root}/var/lib/daemonguard`))
  assert.not(fs.existsSync(`${root}/etc/daemonguard`))
})

test('a dry run names every step and changes nothing', async () => {
  const root = temporaryDirectory()
  const { code, stdout } = await install('--dry-run', '--root', root, executable('1.0.0'))
  assert.is(code, 0)
  for (const step of ['would copy: ', 'would write: ', 'would run: mkdir', 'config.yaml (0640)', 'daemonguard.service (0644)'])
    assert.ok(stdout.includes(step), step)
  assert.equal(fs.readdirSync(root), [])
})

test('mistakes in the call are usage errors with a hint', async () => {
  for (const args of [['--bogus'], ['--root'], ['--root', 'relative'], ['--purge'], ['a', 'b']]) {
    const { code, stderr } = await install(...args)
    assert.is(code, 2, args.join(' '))
    assert.match(stderr, /hint: install\.sh --help/)
  }
})

test.run()
