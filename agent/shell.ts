/** What hints tell an operator to type, in the words of this system's shell. */

const isWindows = process.platform === 'win32'

/** Who may do what with a file. */
export const lookAt = (file: string) => (isWindows ? `icacls "${file}"` : `ls -l ${file}`)
/** The same of a directory. */
export const lookAtDirectory = (directory: string) => (isWindows ? `icacls "${directory}"` : `ls -ld ${directory}`)
/** How much is free, on the disk of a directory or on all of them. */
export const freeSpace = (directory?: string) =>
  isWindows ? 'Get-PSDrive -PSProvider FileSystem' : directory === undefined ? 'df -h' : `df -h ${directory}`
/** Which program a pid is. */
export const whoIs = (pid: number | string) => (isWindows ? `tasklist /v /fi "pid eq ${pid}"` : `ps -fp ${pid}`)
/** Who has a port. */
export const whoListens = (port: number) => (isWindows ? `netstat -ano | findstr :${port}` : `ss -ltnp 'sport = :${port}'`)
