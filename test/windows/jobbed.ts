/** Runs the program that follows on the command line in a job object that ends it with this process, as a session of SSH or a service wrapper does. */

import { spawn } from 'node:child_process'
import { enterJob } from '../../agent/windows/job.ts'
import { kernel } from '../../agent/windows/kernel.ts'

const JobObjectExtendedLimitInformation = 9
const JOB_OBJECT_LIMIT_BREAKAWAY_OK = 0x800
const JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE = 0x2000

const limits = Buffer.alloc(144)
limits.writeUInt32LE(JOB_OBJECT_LIMIT_BREAKAWAY_OK + JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, 16)
if (kernel().setJob(enterJob(), JobObjectExtendedLimitInformation, limits, limits.length) === 0) throw new Error('no such job')
// Detached: Node puts other children into a job of its own.
spawn(process.execPath, process.argv.slice(2), { stdio: 'inherit', detached: true }).on('exit', (code) => process.exit(code ?? 1))
