/** What YAML itself makes of a config: syntax errors by line, anchors, duplicate keys. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { lines, parse, problemsOf } from './support.ts'

const test = suite('config yaml')

const cases: [what: string, text: string, line: string, hint: RegExp][] = [
  [
    'an unquoted cron expression',
    'plugins:\n  watchdog:\n    schedule: */5 * * * *\n',
    '3:19 : not valid YAML: a value begins with \\*',
    /in quotes/,
  ],
  ['an open quote, at its beginning', 'agent:\n  name: "x\nengine: {}\n', '2:9 : not valid YAML: a quote is not closed', /close the quote/],
  ['a tab', 'agent:\n\tname: x\n', '2:1 : not valid YAML: a tab in the indentation', /spaces/],
  ['an open bracket', 'agent: { name: a\nengine: {}\n', '2:1 : not valid YAML: the indentation', /close every/],
  ['a second colon', 'agent: name: x\n', '1:8 : not valid YAML: a second ": "', /quotes/],
  ['a special character', 'agent:\n  name: @x\n', '2:9 : not valid YAML: a value begins with a special character', /quotes/],
  ['a Windows path in double quotes', 'agent:\n  data_dir: "C:\\quant"\n', '2:1\\d : not valid YAML: an unknown escape', /single quotes/],
  ['a second document', 'agent: {}\n---\nengine: {}\n', '2:1 : not valid YAML: a second document', /one document/],
  ['a tag', 'agent:\n  name: !x y\n', '2:9 : not valid YAML: an unknown tag', /quotes/],
  ['an anchor that is not there', 'engine:\n  memory: *big\n', '2:11 engine.memory: there is no anchor', /quotes/],
  ['a key of keys', '? { a: 1 }\n: 2\n', '1:3 : a key must be a single word', /key: value/],
]
for (const [what, text, line, hint] of cases) {
  test(`${what} is told by its line`, () => {
    const problems = problemsOf(text)
    assert.is(problems.length, 1, lines(problems).join('\n'))
    assert.match(lines(problems)[0]!, new RegExp(`^${line}`))
    assert.match(problems[0]!.hint, hint)
  })
}

test('a key that appears twice is told with the line of the first', () => {
  const [problem] = problemsOf('engine:\n  memory: 1GB\n  memory: 2GB\n')
  assert.is(lines([problem!])[0], '3:3 engine.memory: the key appears twice')
  assert.match(problem!.hint, /the first is on line 2/)
})

test('anchors and aliases work, with variables in them', () => {
  const config = parse('agent:\n  log: { level: &l "${LEVEL:-warn}" }\n  name: *l\n')
  assert.is(config.agent.name, 'warn')
})

test('a mistake behind an anchor is told once', () => {
  assert.equal(lines(problemsOf('agent:\n  data_dir: &d ${NO}\nengine:\n  database: *d\n')), [
    '2:16 agent.data_dir: the environment variable NO is not set',
  ])
})

test('an alias inside of its own anchor, and aliases without end, are refused', () => {
  assert.match(lines(problemsOf('plugins: &p\n  watchdog: *p\n'))[0]!, /^2:13 plugins.watchdog: an alias inside of its own anchor/)
  const bomb = ['plugins:', '  a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
  for (let i = 1; i < 9; i++)
    bomb.push(
      `  a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(', ')}]`,
    )
  assert.ok(lines(problemsOf(bomb.join('\n'))).some((line) => /more than 20000 values/.test(line)))
})

test('Windows line ends and a byte order mark do not matter', () => {
  assert.is(parse('\uFEFFagent:\r\n  name: a-1\r\n').agent.name, 'a-1')
  assert.is(lines(problemsOf('agent:\r\n  nam: a-1\r\n'))[0], '2:3 agent.nam: unknown key')
})

test.run()
