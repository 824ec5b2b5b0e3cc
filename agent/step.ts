/**
 * The places at which a process may die: every step that changes something on disk, or in DuckDB, passes here with its label, before it is
 * taken (`synced` and `opened`: after). Labels read `<WHO>:<WHAT>`, upper case, and are written out where the step is, so that the tests can
 * list them from the code (test/fault/support/faults.ts) and miss none.
 *
 * Nothing watches in production: there a step costs one comparison. The code that kills or fails at a label is not part of the
 * program; a test loads it into the process beforehand (`node --import test/fault/support/injector.ts`), and it alone calls `watchSteps`.
 */

export type Label = `${Uppercase<string>}:${Uppercase<string>}`

export type StepKind =
  | 'step'
  | 'mkdir'
  | 'open'
  | 'opened'
  | 'write'
  | 'cut'
  | 'sync'
  | 'synced'
  | 'sync-directory'
  | 'synced-directory'
  | 'rename'
  | 'link'
  | 'copy'
  | 'remove'

export interface Step {
  readonly label: Label
  readonly kind: StepKind
  /** What it acts on: a path, or a descriptor. */
  readonly target: string | number
  /** `rename`, `link`, `copy`: the new path. `write`: the bytes. `cut`: the new length. `opened`: the descriptor. */
  readonly detail: string | number | Uint8Array
  /** `write`: the position. */
  readonly at: number
}

/** May throw: the step then fails with that error. */
export type StepWatcher = (step: Step) => void

let watcher: StepWatcher | undefined

/** For tests alone. */
export function watchSteps(next: StepWatcher): void {
  watcher = next
}

export function step(label: Label, kind: StepKind = 'step', target: string | number = '', detail: Step['detail'] = '', at = 0): void {
  if (watcher !== undefined) watcher({ label, kind, target, detail, at })
}
