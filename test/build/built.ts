/** The packed executable for tests: built when any source is newer than it. */

import fs from 'node:fs'
import path from 'node:path'
import { ofThisMachine } from '../../build/targets.ts'
import { runChild } from '../support/process.ts'

const executable = path.resolve('dist', ofThisMachine?.executable ?? 'daemonguard')
const sources = ['agent', 'plugins', 'build', 'package.json', 'package-lock.json', 'install.sh', 'config.example.yaml']

/** Path of an up-to-date dist/daemonguard, the one for this machine. */
export async function builtExecutable(): Promise<string> {
  if (!isUpToDate(executable)) await build('--platform', ofThisMachine?.name ?? '')
  return executable
}

/** Newer than all that it is made of. */
export function isUpToDate(file: string): boolean {
  return fs.existsSync(file) && fs.statSync(file).mtimeMs > newest(sources)
}

/** Runs the build; throws with all that it printed when it fails. */
export async function build(...options: string[]): Promise<void> {
  const { code, stdout, stderr } = await runChild(process.execPath, ['build/build.ts', ...options], { deadline: 180_000 })
  if (code !== 0) throw new Error(`build/build.ts ${options.join(' ')} failed with ${code}\n${stdout}${stderr}`)
}

/** Last change below any of these, milliseconds. */
function newest(places: readonly string[]): number {
  let latest = 0
  for (const place of places) {
    const stat = fs.statSync(place)
    latest = Math.max(latest, stat.mtimeMs)
    if (stat.isDirectory()) latest = Math.max(latest, newest(fs.readdirSync(place).map((name) => path.join(place, name))))
  }
  return latest
}
