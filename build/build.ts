/**
 * `npm run build`: agent/main.ts and all it needs → dist/daemonguard, one executable for Linux, with its installer, the unit,
 * the licences of all that is inside, and SHA256SUMS. The same source gives the same bytes.
 * `node build/build.ts [ENTRY [DIRECTORY]]` packs another program the same way; the build's own tests do.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { version } from '../agent/runtime.ts'
import { bundle } from './bundle.ts'
import { pack } from './pack.ts'

const root = path.dirname(import.meta.dirname)
const entry = path.resolve(process.argv[2] ?? path.join(root, 'agent/main.ts'))
const directory = path.resolve(process.argv[3] ?? path.join(root, 'dist'))

if (process.platform !== 'linux') throw new Error(`this version is built on Linux, not on ${process.platform}`)
const started = performance.now()
fs.mkdirSync(directory, { recursive: true })
const executable = path.join(directory, 'daemonguard')
// Packed under another name and renamed at the end: a running executable is not disturbed, a failed build replaces nothing.
const unfinished = path.join(directory, 'daemonguard.unfinished')
const bundled = await bundle({ entry, directory, target: `linux-${process.arch}` })
await pack(bundled, unfinished)

const trial = spawnSync(unfinished, ['--version'], { encoding: 'utf8' })
// A bare Node would answer too, with its own version.
if (trial.status !== 0 || !trial.stdout.includes(version) || trial.stdout.includes(process.version)) {
  throw new Error(`the packed program does not work: --version gave ${trial.status ?? trial.signal}\n${trial.stdout}${trial.stderr}`)
}
fs.renameSync(unfinished, executable)
// Copied to a host, dist/ is complete: the program, its installer, the unit.
for (const file of ['install.sh', 'build/daemonguard.service'])
  fs.copyFileSync(path.join(root, file), path.join(directory, path.basename(file)))
const sums = ['LICENSES', 'daemonguard', 'daemonguard.service', 'install.sh'].map(
  (name) =>
    `${createHash('sha256')
      .update(fs.readFileSync(path.join(directory, name)))
      .digest('hex')}  ${name}\n`,
)
fs.writeFileSync(path.join(directory, 'SHA256SUMS'), sums.join(''))
const megabytes = (fs.statSync(executable).size / 1e6).toFixed(0)
const seconds = ((performance.now() - started) / 1000).toFixed(1)
console.log(`${path.relative(process.cwd(), executable)}: ${trial.stdout.trim()}, ${megabytes} MB, built in ${seconds} s`)
