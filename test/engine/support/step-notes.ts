/**
 * Loaded into an engine beforehand (`node --import`): each step whose label begins with STEP_NOTES_OF adds a line to the file that STEP_NOTES names. So a test
 * can tell which way something went that looks the same on every way.
 */

import fs from 'node:fs'
import path from 'node:path'
import { watchSteps } from '../../../agent/step.ts'

const { STEP_NOTES: file, STEP_NOTES_OF: wanted } = process.env
if (file !== undefined && wanted !== undefined && path.basename(process.argv[1] ?? '') === 'main.ts')
  watchSteps(({ label }) => {
    if (label.startsWith(wanted)) fs.appendFileSync(file, `${label}\n`)
  })

/** The environment of an engine that notes these steps. */
export function notingSteps(notes: string, labels: string): Record<string, string> {
  return { NODE_OPTIONS: `--import=${import.meta.filename}`, STEP_NOTES: notes, STEP_NOTES_OF: labels }
}

/** How often this step has been noted. */
export function countOf(notes: string, label: string): number {
  if (!fs.existsSync(notes)) return 0
  return fs
    .readFileSync(notes, 'utf8')
    .split('\n')
    .filter((line) => line === label).length
}
