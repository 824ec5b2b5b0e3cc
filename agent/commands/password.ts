/** `password`: makes the verifier that `engine.auth.users` may hold in place of a password. */

import { createInterface } from 'node:readline'
import { ExitCode } from '../errors.ts'
import { type Command, print, UsageError } from './command.ts'

const command: Command = {
  usage: 'password [--json]',
  help: [
    'Reads a password from the terminal, without showing it, or one line from standard input, and prints its SCRAM-SHA-256 verifier, as',
    'PostgreSQL stores one. The verifier lets the engine check the password, and nobody log in with it: put it in the configuration as',
    '`password: "SCRAM-SHA-256$…"` of a user of engine.auth.',
  ],
  options: { json: { type: 'boolean' } },
  async run(call) {
    const { formatVerifier, makeVerifier } = await import('../verifier.ts')
    const password = process.stdin.isTTY ? await typedTwice() : await firstLine()
    if (password === '') throw new UsageError('the password is empty', 'type it, or pipe it in: daemonguard password < FILE')
    const verifier = formatVerifier(await makeVerifier(password))
    print(call, { verifier }, [verifier])
    return ExitCode.ok
  },
}
export default command

async function firstLine(): Promise<string> {
  for await (const line of createInterface({ input: process.stdin })) return line
  return ''
}

async function typedTwice(): Promise<string> {
  const password = await typed('Password: ')
  if ((await typed('Once more: ')) !== password) throw new UsageError('the two passwords are different', 'daemonguard password')
  return password
}

/** What is typed on the terminal, which does not show it. */
function typed(prompt: string): Promise<string> {
  process.stderr.write(prompt)
  // readline echoes to its output: there is none, and in raw mode the terminal itself echoes nothing.
  const lines = createInterface({ input: process.stdin, terminal: true })
  return new Promise((resolve, reject) => {
    lines.once('line', (line) => {
      lines.close()
      process.stderr.write('\n')
      resolve(line)
    })
    lines.once('SIGINT', () => {
      lines.close()
      process.stderr.write('\n')
      reject(new UsageError('given up', 'daemonguard password'))
    })
  })
}
