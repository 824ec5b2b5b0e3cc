/** MERGE INTO: where its target, its conditions and its actions stand. */

import { SqlError } from '../sql-error.ts'
import { assignedColumns, type Clause, type QualifiedName, qualifiedName } from './statement.ts'
import { lowerCase, type Token } from './tokens.ts'

export interface MergeStatement {
  readonly text: string
  readonly tokens: readonly Token[]
  readonly kind: 'merge'
  readonly target: QualifiedName
  /** [start, end) of the target with its alias. */
  readonly targetText: readonly [number, number]
  /** What the target's columns are qualified with, as written. */
  readonly qualifier: string
  readonly updates: readonly MergeUpdate[]
  readonly deletes: boolean
  /** ON … or USING (…), up to the first WHEN. */
  readonly condition: readonly Token[]
  readonly returning: Clause | undefined
}

/** One WHEN … THEN UPDATE. */
export interface MergeUpdate {
  /** Undefined: every column that the source has. */
  readonly assigned: readonly string[] | undefined
  /** Columns that get another value than the source's column of the same name. */
  readonly computed: readonly string[]
}

/** `verb`: the index of MERGE, which a WITH list may precede. */
export function parseMerge(base: { text: string; tokens: readonly Token[] }, verb: number): MergeStatement {
  const { text, tokens } = base
  const into = tokens[verb + 1]?.text === 'into' ? verb + 2 : verb + 1
  const { name, next } = qualifiedName(tokens, into)
  const outside = outsideOfCase(tokens)
  const find = (word: string, from: number) =>
    tokens.findIndex((token, i) => i >= from && outside[i] && token.kind === 'word' && token.text === word)
  const using = find('using', next)
  const firstWhen = find('when', using)
  if (using === -1 || firstWhen === -1) throw new SqlError('42601', 'MERGE INTO … USING … ON … WHEN … was expected')
  const on = find('on', using + 1)
  const joined =
    on !== -1 && on < firstWhen ? on : tokens.findLastIndex((token, i) => i < firstWhen && outside[i] && token.text === 'using')
  const alias = tokens[using - 1] as Token
  const returning = find('returning', firstWhen)
  const end = returning === -1 ? tokens.length : returning
  const updates: MergeUpdate[] = []
  let deletes = false
  for (let when = firstWhen; when !== -1 && when < end; when = find('when', when + 1)) {
    const then = find('then', when)
    const next = find('when', when + 1)
    const action = tokens[then + 1]?.text
    if (action === 'delete') deletes = true
    else if (action === 'update') {
      refuseBySource(tokens.slice(when, then))
      updates.push(update(tokens, then + 2, next === -1 || next > end ? end : next))
    } else if (!['insert', 'do', 'error'].includes(action ?? ''))
      throw new SqlError('0A000', `MERGE … THEN ${action ?? ''} is not supported`)
  }
  const clause = tokens[returning]
  return {
    ...base,
    kind: 'merge',
    target: name,
    targetText: [(tokens[into] as Token).start, alias.end],
    qualifier: text.slice(alias.start, alias.end),
    updates,
    deletes,
    condition: tokens.slice(joined, firstWhen),
    returning: clause === undefined ? undefined : { keyword: clause.start, start: clause.end, end: text.length },
  }
}

/** DuckDB 1.5 returns memory of anybody's from it, or aborts. */
function refuseBySource(tokens: readonly Token[]): void {
  if (tokens[1]?.text === 'not' && tokens[3]?.text === 'by' && tokens[4]?.text === 'source')
    throw new SqlError('0A000', 'MERGE … WHEN NOT MATCHED BY SOURCE THEN UPDATE is not supported', {
      hint: 'UPDATE … WHERE NOT EXISTS (SELECT 1 FROM source WHERE …), in the same transaction',
    })
}

function update(tokens: readonly Token[], from: number, to: number): MergeUpdate {
  const isStar = tokens[from + 1]?.text === '*'
  if (tokens[from]?.text !== 'set' || isStar) return { assigned: undefined, computed: [] }
  const assigned = assignedColumns(tokens, from + 1, to)
  // `a = s.a`, between commas.
  const copied = new Set<string>()
  const depth = tokens[from]?.depth
  for (let i = from + 1; i < to; i++) {
    const [column, equals, , dot, source, after] = tokens.slice(i, i + 6) as (Token | undefined)[]
    const starts = i === from + 1 || (tokens[i - 1]?.text === ',' && tokens[i - 1]?.depth === depth)
    const ends = i + 5 >= to || (after?.text === ',' && after.depth === depth)
    const same = lowerCase(column?.text ?? '') === lowerCase(source?.text ?? '')
    if (starts && ends && equals?.text === '=' && dot?.text === '.' && same) copied.add(lowerCase(column?.text ?? ''))
  }
  return { assigned, computed: assigned.filter((column) => !copied.has(lowerCase(column))) }
}

/** By token: at the statement's own level, and in no CASE, which has WHEN and THEN as well. */
function outsideOfCase(tokens: readonly Token[]): boolean[] {
  let cases = 0
  return tokens.map((token) => {
    if (token.depth > 0) return false
    const isWord = token.kind === 'word'
    if (isWord && token.text === 'case') cases++
    const outside = cases === 0
    if (isWord && token.text === 'end' && cases > 0) cases--
    return outside
  })
}

/** Whether a matched row of the source has the target's value in `column` for certain: USING (column), or ON … AND t.column = s.column. */
export function pins(condition: readonly Token[], column: string): boolean {
  const is = (token: Token | undefined) => lowerCase(token?.text ?? '') === lowerCase(column)
  if (condition[0]?.text === 'using') return condition.some((token, i) => i > 0 && is(token))
  if (condition.some(({ kind, text }) => kind === 'word' && ['or', 'not', 'case'].includes(text))) return false
  return condition.some((token, i) => {
    const [dot, own, equals, other, dot2, theirs] = condition.slice(i + 1, i + 7) as (Token | undefined)[]
    const before = condition[i - 1]?.text ?? ''
    const after = condition[i + 7]?.text ?? 'and'
    const alone = ['on', 'and', '('].includes(before) && ['and', ')'].includes(after)
    return alone && dot?.text === '.' && equals?.text === '=' && dot2?.text === '.' && is(own) && is(theirs) && other?.text !== token.text
  })
}
