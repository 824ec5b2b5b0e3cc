/** Work to do when the test process ends, however it ends (the runner's guard catches what SIGKILL leaves). */

const tasks: (() => void)[] = []
let installed = false

/** Runs `task` (synchronous) at the end of this process, last registered first: also after a throw, process.exit, SIGTERM, SIGINT or SIGHUP. */
export function onExit(task: () => void): void {
  tasks.push(task)
  if (installed) return
  installed = true
  process.on('exit', () => {
    for (let next = tasks.pop(); next; next = tasks.pop()) {
      try {
        next()
      } catch (error) {
        process.stderr.write(`cleanup failed: ${String(error)}\n`)
      }
    }
  })
  for (const [signal, number] of [
    ['SIGHUP', 1],
    ['SIGINT', 2],
    ['SIGTERM', 15],
  ] as const) {
    process.on(signal, () => process.exit(128 + number))
  }
}
