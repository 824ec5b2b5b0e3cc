/** Which file is the config, and its text. */

import fs from 'node:fs'
import path from 'node:path'
import { codeOf } from '../errors.ts'
import { lookAt } from '../shell.ts'
import type { Environment } from './expand.ts'
import { ConfigError } from './problem.ts'

/** Where a config is looked for when none is named, in this order. */
export function defaultFiles(
  env: Environment = process.env,
  platform: NodeJS.Platform = process.platform,
  directory = process.cwd(),
): string[] {
  const ofMachine =
    platform === 'win32'
      ? path.win32.join(env.ProgramData ?? 'C:\\ProgramData', 'DaemonGuard', 'config.yaml')
      : '/etc/daemonguard/config.yaml'
  return [path.join(directory, 'config.yaml'), ofMachine]
}

/** Reads the named file, or the first default one that exists. Throws ConfigError when there is none or it cannot be read. */
export function readConfigFile(named: string | undefined, defaults: readonly string[] = defaultFiles()): { file: string; text: string } {
  if (named !== undefined) {
    const file = path.resolve(named)
    const text = readText(file)
    if (text === undefined)
      throw fault(file, 'there is no such file', `name the right one with -c, or begin with the example: cp config.example.yaml ${named}`)
    return { file, text }
  }
  for (const file of defaults) {
    const text = readText(file)
    if (text !== undefined) return { file, text }
  }
  throw fault(
    defaults[0]!,
    `no config found; looked for ${defaults.join(' and ')}`,
    'cp config.example.yaml config.yaml, or name a file with -c FILE',
  )
}

/** The text, or undefined when there is no such file. */
function readText(file: string): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(fs.readFileSync(file))
  } catch (error) {
    const code = codeOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    if (code === 'EISDIR') throw fault(file, 'it is a directory', `name the file in it: -c ${path.join(file, 'config.yaml')}`)
    if (code === 'EACCES' || code === 'EPERM') throw fault(file, 'permission denied', `make it readable for this user: ${lookAt(file)}`)
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') throw fault(file, 'it is not UTF-8 text', `see what it is: file ${file}`)
    throw fault(file, `it cannot be read (${code ?? 'unknown error'})`, lookAt(file))
  }
}

function fault(file: string, message: string, hint: string): ConfigError {
  return new ConfigError(file, [{ line: null, column: null, key: '', message, hint }])
}
