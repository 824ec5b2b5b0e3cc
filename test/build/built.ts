/** The packed executable for tests: built when any source is newer than it. */

import fs from 'node:fs'
import path from 'node:path'
import { runChild } from '../support/process.ts'

const executable = path.resolve('dist/daemonguard')
const sources = ['agent', 'plugins', 'build', 'package.json', 'package-lock.json', 'install.sh']

/** Path of an up-to-date dist/daemonguard. */
export async function builtExecutable(): Promise<string> {
  if (fs.existsSync(executable) && fs.statSync(executable).mtimeMs > newest(sources)) return executable
  const { code, stdout, stderr } = await runChild(process.execPath, ['build/build.ts'], { deadline: 180_000 })
  if (code !== 0) throw new Error(`npm run build failed with ${code}\n${stdout}${stderr}`)
  return executable
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
