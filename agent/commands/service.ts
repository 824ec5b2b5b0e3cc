/**
 * `service`: the system service, from the executable alone. On Linux install and uninstall run install.sh, which lies inside the executable:
 * there is one place that knows how it is done. The rest is systemd's. On Windows it is agent/windows/service*.ts.
 */

import { spawn } from 'node:child_process'
import path from 'node:path'
import { DaemonGuardError, ExitCode } from '../errors.ts'
import { packedText } from '../runtime.ts'
import { type Call, type Command, didYouMean, UsageError } from './command.ts'

const verbs = ['install', 'uninstall', 'start', 'stop', 'restart', 'status'] as const

const command: Command = {
  usage: 'service install|uninstall|start|stop|restart|status [--purge] [--dry-run]',
  help: [
    'install    this executable becomes the service daemonguard (systemd; without root: of this user; on Windows a native service), or upgrades it; waits until it is',
    '           healthy, else puts the old one back.',
    'uninstall  removes it; data and configuration stay, unless --purge is given.',
    'start, stop, restart  the agent; the engine goes on. To stop that too: service stop, then stop --engine.',
    'status     what the service manager says: exit code 0 when it runs. What DaemonGuard says: daemonguard status.',
    '--dry-run  prints what install or uninstall would do, and changes nothing.',
  ],
  options: { purge: { type: 'boolean' }, 'dry-run': { type: 'boolean' } },
  positionals: { least: 1, most: 1 },
  async run(call) {
    const verb = call.positionals[0] ?? ''
    // What Windows' service manager starts.
    if (verb === 'run' && process.platform === 'win32') return await runService(call)
    if (!verbs.some((known) => known === verb))
      throw new UsageError(`service cannot "${verb}"`, `${didYouMean(verb, verbs)}daemonguard service --help`)
    const changes = verb === 'install' || verb === 'uninstall'
    if (!changes && (call.values.purge === true || call.values['dry-run'] === true))
      throw new UsageError(`service ${verb} takes no options`, 'daemonguard service --help')
    if (process.platform === 'win32') return await ofWindows(verb, call)
    if (process.platform !== 'linux') throw new DaemonGuardError(`there is no service on ${process.platform} in this version`)
    if (changes) return await script(verb, call)
    const manager = process.getuid?.() === 0 ? [] : ['--user']
    return (await execute('systemctl', [...manager, verb, 'daemonguard'])) === 0 ? ExitCode.ok : ExitCode.failed
  },
}
export default command

async function ofWindows(verb: string, call: Call): Promise<number> {
  const options = { dryRun: call.values['dry-run'] === true, purge: call.values.purge === true }
  if (verb === 'install') return await (await import('../windows/service-install.ts')).install(options)
  if (verb === 'uninstall') return await (await import('../windows/service-install.ts')).uninstall(options)
  return await (await import('../windows/service-verbs.ts')).handle(verb)
}

async function runService(call: Call): Promise<number> {
  // Where only administrators can write, as they alone can replace the program itself; the engine inherits it.
  process.env.CACHE_DIRECTORY ??= path.join(path.dirname(process.execPath), 'cache')
  const [{ WindowsService }, { runAgent }, { endNow }] = await Promise.all([
    import('../windows/service.ts'),
    import('./run.ts'),
    import('../windows/processes.ts'),
  ])
  // Node would wait for the dispatcher's thread, which goes on until the service says that it has stopped.
  process.on('exit', endNow)
  const service = await WindowsService.connect()
  return await service.run((surroundings) => runAgent(call, surroundings))
}

async function script(verb: 'install' | 'uninstall', call: Call): Promise<number> {
  const [text, unit] = [packedText('install.sh'), packedText('daemonguard.service')]
  if (text === undefined || unit === undefined)
    throw new DaemonGuardError('only the packed executable can be installed', {
      hint: 'npm run build, then dist/daemonguard service install',
    })
  const args = verb === 'install' ? [process.execPath] : ['--uninstall']
  if (call.values.purge === true) args.push('--purge')
  if (call.values['dry-run'] === true) args.push('--dry-run')
  return await execute('/bin/sh', ['-c', text, 'install.sh', ...args], { DAEMONGUARD_UNIT: unit })
}

/** Runs a program with this terminal; resolves with its exit code. */
function execute(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...env } })
    child.once('error', (cause) =>
      reject(new DaemonGuardError(`${program} cannot be started: ${cause.message}`, { hint: 'without systemd: daemonguard run', cause })),
    )
    child.once('exit', (code) => resolve(code ?? ExitCode.failed))
  })
}
