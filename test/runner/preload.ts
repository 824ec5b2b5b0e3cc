/**
 * Loaded (`--import`) into each test process before its test file. Gives every importer of `uvu` the recorder around it, and
 * ends the process when the guard dies.
 */

import { registerHooks } from 'node:module'
import net from 'node:net'
import { isMainThread } from 'node:worker_threads'
import { reportVariable } from './report.ts'

const recorder = new URL('./recorder.ts', import.meta.url).href

// A forked child or a worker inherits --import, but not the variable: it gets the plain uvu.
if (process.env[reportVariable] !== undefined && isMainThread) {
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === 'uvu' && context.parentURL !== recorder) return { url: recorder, format: 'module-typescript', shortCircuit: true }
      return next(specifier, context)
    },
  })
  const guard = new net.Socket({ fd: 3 })
  guard.on('error', () => {})
  guard.on('close', () => process.exit(1))
  guard.resume().unref()
  await import('./recorder.ts')
}
