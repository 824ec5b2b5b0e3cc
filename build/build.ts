/**
 * `npm run build`: agent/main.ts and all it needs → dist/daemonguard, dist/daemonguard.exe and dist/daemonguard-linux-arm64, one executable each, with the installer
 * and the unit for Linux, the licences of all that is inside, and SHA256SUMS. The same source gives the same bytes.
 *
 *   node build/build.ts [--platform NAME …] [--node VERSION] [--entry FILE] [--out DIRECTORY]
 *
 * --platform: that one only (linux-x64, linux-arm64, win-x64). --node: on another Node than that of node_modules; the tests under Wine need 22. --entry
 * packs another program the same way.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { version } from '../agent/runtime.ts'
import { bundle } from './bundle.ts'
import { nodeVersion, pack } from './pack.ts'
import { ofThisMachine, targets } from './targets.ts'

const root = path.dirname(import.meta.dirname)
const { values } = parseArgs({
  options: {
    platform: { type: 'string', multiple: true, default: targets.map(({ name }) => name) },
    node: { type: 'string', default: nodeVersion },
    entry: { type: 'string', default: path.join(root, 'agent/main.ts') },
    out: { type: 'string', default: path.join(root, 'dist') },
  },
})
const [entry, directory] = [path.resolve(values.entry), path.resolve(values.out)]
const chosen = values.platform.map((name) => {
  const target = targets.find((one) => one.name === name)
  if (target === undefined) throw new Error(`--platform ${name}: it is one of ${targets.map((one) => one.name).join(', ')}`)
  return target
})

if (process.platform !== 'linux') throw new Error(`this version is built on Linux, not on ${process.platform}`)
fs.mkdirSync(directory, { recursive: true })
for (const target of chosen) {
  const started = performance.now()
  const executable = path.join(directory, target.executable)
  // Packed under another name and renamed at the end: a running executable is not disturbed, a failed build replaces nothing.
  const unfinished = path.join(directory, `${target.executable}.unfinished`)
  const bundled = await bundle({ entry, directory, target, nodeVersion: values.node })
  await pack(bundled, target, values.node, unfinished)
  if (target === ofThisMachine) tryIt(unfinished)
  fs.renameSync(unfinished, executable)
  const megabytes = (fs.statSync(executable).size / 1e6).toFixed(0)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const state = target === ofThisMachine ? '' : ', not run on this machine'
  console.log(`${path.relative(process.cwd(), executable)}: ${version} for ${target.name}, ${megabytes} MB, built in ${seconds} s${state}`)
}
// Copied to a host, dist/ is complete: the programs, the installer, the unit.
for (const file of ['install.sh', 'build/daemonguard.service', 'config.example.yaml'])
  fs.copyFileSync(path.join(root, file), path.join(directory, path.basename(file)))
const distributed = ['LICENSES', 'config.example.yaml', 'daemonguard.service', 'install.sh', ...chosen.map(({ executable }) => executable)]
const sums = distributed.map((name) => {
  const content = fs.readFileSync(path.join(directory, name))
  return `${createHash('sha256').update(content).digest('hex')}  ${name}\n`
})
fs.writeFileSync(path.join(directory, 'SHA256SUMS'), sums.join(''))

function tryIt(executable: string): void {
  const trial = spawnSync(executable, ['--version'], { encoding: 'utf8' })
  // A bare Node would answer too, with its own version.
  if (trial.status === 0 && trial.stdout.includes(version) && !trial.stdout.includes(process.version)) return
  throw new Error(`the packed program does not work: --version gave ${trial.status ?? trial.signal}\n${trial.stdout}${trial.stderr}`)
}
