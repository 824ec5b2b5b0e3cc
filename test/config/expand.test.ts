/** Variables in values: ${NAME}, ${NAME:-default}. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { expand } from '../../agent/config/expand.ts'
import { lines, parse, problemsOf } from './support.ts'

const test = suite('config variables')

const text = (value: string, env: Record<string, string> = {}) => {
  const { text, mistakes } = expand(value, env)
  return mistakes.length > 0 ? mistakes.map(({ message }) => message) : text
}

test('a variable is replaced wherever it stands, more than once', () => {
  assert.is(text('a ${X}-${Y}', { X: '1', Y: '2' }), 'a 1-2')
  assert.is(text('none, $X, $ {X}', { X: '1' }), 'none, $X, $ {X}')
})

test('a default stands in for a variable that is missing or empty, as in a shell', () => {
  assert.is(text('${X:-d}'), 'd')
  assert.is(text('${X:-d}', { X: '' }), 'd')
  assert.is(text('${X:-d}', { X: 'x' }), 'x')
  assert.is(text('${X:-}'), '')
  assert.is(text('${X:-a:-b $c}'), 'a:-b $c')
  assert.is(text('${X}', { X: '' }), '')
})

test('what a variable holds is not expanded again, and $${ is a literal', () => {
  assert.is(text('${X}', { X: '${Y}', Y: 'no' }), '${Y}')
  assert.is(text('${X}', { X: '$& $1' }), '$& $1')
  assert.is(text('$${X} ${X}', { X: '1' }), '${X} 1')
})

test('a missing variable, a bad name and an open brace are mistakes, all of them', () => {
  assert.equal(text('${A}${B}'), ['the environment variable A is not set', 'the environment variable B is not set'])
  assert.equal(text('${1A}'), ['between ${ and } stands no name of a variable'])
  assert.equal(text('${}'), ['between ${ and } stands no name of a variable'])
  assert.equal(text('${A-b}'), ['between ${ and } stands no name of a variable'])
  assert.equal(text('x${A'), ['a ${ is not closed'])
})

test('a variable may give a number or a boolean where one is due, and stays a text elsewhere', () => {
  const config = parse(
    'engine:\n  cpu_cores: ${N}\n  external_access: "${B}"\nagent: { name: "${N}" }\nplugins: { redis-mirror: { password: "${N}" } }',
    {
      env: { N: '12', B: 'true' },
    },
  )
  assert.is(config.engine.cpu_cores, 12)
  assert.is(config.engine.external_access, true)
  assert.is(config.agent.name, '12')
  assert.is((config.plugins.find(({ name }) => name === 'redis-mirror')!.options as { password: string }).password, '12')
  assert.match(lines(problemsOf('engine: { cpu_cores: "${N}" }', { env: { N: 'many' } }))[0]!, /expected a number, got a text/)
  assert.match(lines(problemsOf('engine: { cpu_cores: "12" }'))[0]!, /expected a number, got a text/)
  assert.match(lines(problemsOf('engine: { cpu_cores: "${N}" }', { env: { N: '1.5' } }))[0]!, /expected a whole number/)
})

test('keys are not expanded', () => {
  assert.match(lines(problemsOf('"${K}": 1', { env: { K: 'agent' } }))[0]!, /unknown key/)
})

test.run()
