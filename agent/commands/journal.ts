/** `journal cat|verify [DIR]`: reads the journal's files; needs no engine and disturbs none. */

import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { DaemonGuardError, ExitCode } from '../errors.ts'
import { listSegments } from '../journal/segment.ts'
import { readTransactions } from '../journal/transactions.ts'
import { durableSeqOf, type JournalVerdict, plainChanges, verifyJournal } from '../journal-check.ts'
import { bytes, toJson } from '../status-report.ts'
import { type Call, type Command, didYouMean, jsonOption, print, UsageError } from './command.ts'
import { locate } from './configuration.ts'

const command: Command = {
  usage: 'journal cat|verify [DIR] [--from SEQ] [--to SEQ] [--json] [-c FILE]',
  help: [
    'cat     prints every change as one JSON object on a line of its own: seq, time, kind, table, row (or key, or sql);',
    '        what cannot be read is told on stderr and passed over, with the exit code that verify has.',
    'verify  reads every batch and checks its checksum. Exit codes: 0 clean; 1 damaged; 3 the end is no whole batch, and',
    '        after a restart of the machine nobody can say whether it was acknowledged (the next start of the engine reports it).',
    'DIR is a journal directory; without it, the journal of the configuration.',
    '--from, --to  the first and last seq that `cat` prints.',
  ],
  options: { ...jsonOption, from: { type: 'string' }, to: { type: 'string' } },
  positionals: { least: 1, most: 2 },
  async run(call) {
    const [verb = '', directory] = call.positionals
    if (verb !== 'cat' && verb !== 'verify')
      throw new UsageError(`journal cannot "${verb}"`, `${didYouMean(verb, ['cat', 'verify'])}daemonguard journal --help`)
    if (verb === 'verify' && (call.values.from ?? call.values.to) !== undefined)
      throw new UsageError('journal verify verifies all of it', 'leave --from and --to away')
    const journal = await choose(call, directory)
    return verb === 'cat' ? await cat(call, journal) : verify(call, journal)
  },
}
export default command

async function choose(call: Call, directory: string | undefined): Promise<string> {
  if (directory === undefined) return (await locate(call)).paths.journal
  const journal = path.resolve(directory)
  if (!fs.existsSync(journal))
    throw new DaemonGuardError('there is no such directory', { where: journal, hint: 'daemonguard journal --help' })
  return journal
}

function verify(call: Call, journal: string): number {
  const result = verifyJournal(journal)
  print(call, { journal, ...result }, describe(journal, result))
  return exitCodes[result.verdict]
}

const exitCodes = { clean: ExitCode.ok, damaged: ExitCode.failed, inconclusive: ExitCode.unknown } as const

function describe(journal: string, result: JournalVerdict): string[] {
  const range = result.firstSeq === null ? 'no transactions' : `seq ${result.firstSeq} to ${result.lastSeq}`
  return [
    `${journal}: ${result.verdict}`,
    `  ${result.segments} segments, ${result.batches} batches, ${result.transactions} transactions (${range}), ${bytes(result.bytes)}`,
    ...result.damage.map(({ file, offset, reason }) => `  ${path.basename(file)}, byte ${offset}: ${reason}`),
    ...(result.tail === null ? [] : [`  ${path.basename(result.tail.file)}, byte ${result.tail.offset}: the end: ${result.tail.reason}`]),
    ...result.gaps.map(({ firstSeq, lastSeq }) => `  missing: seq ${firstSeq} to ${lastSeq}`),
  ]
}

async function cat(call: Call, journal: string): Promise<number> {
  const from = seqOption(call, 'from') ?? 1
  const durable = durableSeqOf(journal)
  const to = Math.min(seqOption(call, 'to') ?? Number.MAX_SAFE_INTEGER, durable ?? Number.MAX_SAFE_INTEGER)
  let damaged = false
  const tell = (what: string) => {
    damaged = true
    process.stderr.write(`daemonguard: ${what}\n  hint: daemonguard journal verify\n`)
  }
  // What lay before the first segment has been deleted by retention.
  let expected = Math.max(from, listSegments(journal)[0]?.firstSeq ?? from)
  const reach = (seq: number) => {
    if (seq > expected) tell(`seq ${expected} to ${seq - 1} cannot be read`)
    expected = Math.max(expected, seq)
  }
  for (const transaction of readTransactions(journal, from, to, ({ file, offset, reason }) =>
    tell(`${reason} (${file}, byte ${offset})`),
  )) {
    reach(transaction.seq)
    for (const change of plainChanges(transaction)) {
      if (!process.stdout.write(`${toJson(change)}\n`)) await once(process.stdout, 'drain')
    }
    expected = transaction.seq + 1
    // Beyond it lie bytes that are still being written.
    if (transaction.seq >= to) break
  }
  if (durable !== undefined) reach(to + 1)
  return damaged ? exitCodes[verifyJournal(journal).verdict] || ExitCode.failed : ExitCode.ok
}

function seqOption(call: Call, name: 'from' | 'to'): number | undefined {
  const text = call.values[name]
  if (text === undefined) return undefined
  const seq = Number(text)
  if (!Number.isSafeInteger(seq) || seq < 1) throw new UsageError(`--${name} takes a seq (1, 2, 3 …)`, 'daemonguard journal --help')
  return seq
}
