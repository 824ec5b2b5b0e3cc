/**
 * Loaded into a process of the program by a test (`node --import …/injector.ts`): kills it, fails a step, or records all of them, as the plan
 * in DAEMONGUARD_FAULT says (test/fault/support/faults.ts). Nothing of this is part of the program.
 */

import fs from 'node:fs'
import path from 'node:path'
import { type Step, watchSteps } from '../../../agent/step.ts'
import { type Fault, type FaultPlan, systemErrors } from './faults.ts'
import { fileRecorder } from './recorder.ts'

const text = process.env.DAEMONGUARD_FAULT
if (text !== undefined) {
  const plan = JSON.parse(text) as FaultPlan
  // Of the program: its subcommand; of a fixture: its name.
  const script = path.basename(process.argv[1] ?? '', '.ts')
  const role = script === 'main' ? process.argv[2] : script
  if (plan.role === undefined || plan.role === role) inject(plan)
}

function inject(plan: FaultPlan): void {
  const trace = plan.trace === undefined ? undefined : fs.openSync(plan.trace, 'a')
  const tell = (line: string) => void (trace !== undefined && fs.writeSync(trace, `${line}\n`))
  const hits = new Map<Fault, number>()
  const record = plan.record === undefined ? undefined : fileRecorder(plan.record)
  watchSteps((step) => {
    record?.(step)
    for (const fault of plan.faults ?? []) {
      if (fault.label !== undefined && fault.label !== step.label) continue
      if (fault.kinds !== undefined && !fault.kinds.includes(step.kind)) continue
      if (fault.when !== undefined && !fs.existsSync(fault.when)) continue
      const hit = (hits.get(fault) ?? 0) + 1
      hits.set(fault, hit)
      if (hit < (fault.hit ?? 1) || (fault.every !== true && hit > (fault.hit ?? 1))) continue
      tell(`fired ${step.label} ${step.kind}`)
      strike(fault, step)
    }
  })
}

function strike(fault: Fault, step: Step): void {
  if (fault.partial === true && step.kind === 'write') {
    const data = step.detail as Uint8Array
    fs.writeSync(step.target as number, data, 0, Math.floor(data.length / 2), step.at)
  }
  if (fault.action === 'kill') {
    process.kill(process.pid, 'SIGKILL')
    // The signal may be taken by another thread: nothing more may happen on this one.
    for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
  }
  const code = fault.action
  const { errno, text } = systemErrors[code]
  throw Object.assign(new Error(`${code}: ${text} (injected at ${step.label} ${step.kind})`), { code, errno, syscall: step.kind })
}
