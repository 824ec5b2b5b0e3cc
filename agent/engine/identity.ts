/** `identity.json` in the data directory: which database it guards. Written once, before the first file is created or adopted. */

import fs from 'node:fs'
import { ensureDirectory, writeAtomic } from '../disk.ts'
import { codeOf, DaemonGuardError } from '../errors.ts'
import type { Paths } from '../paths.ts'

export interface Identity {
  /** UUID; also in the watermark, in every journal segment, in manifests and at destinations. */
  readonly databaseId: string
}

/** undefined where the data directory has none yet. */
export function readIdentity(paths: Paths): Identity | undefined {
  let text: string
  try {
    text = fs.readFileSync(paths.identityFile, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  const identity = JSON.parse(text) as Partial<Identity>
  if (typeof identity.databaseId !== 'string') {
    throw new DaemonGuardError('the identity file is not readable', {
      where: paths.identityFile,
      hint: 'restore it from a backup of the data directory',
    })
  }
  return { databaseId: identity.databaseId }
}

export function writeIdentity(paths: Paths, identity: Identity): void {
  ensureDirectory(paths.data, 'IDENTITY:WRITE')
  writeAtomic(paths.identityFile, `${JSON.stringify({ version: 1, ...identity }, null, 2)}\n`, 'IDENTITY:WRITE')
}
