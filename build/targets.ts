/** What `npm run build` builds, and for which platforms. */

export interface Target {
  /** As `--platform` takes it, and as pkg spells it. */
  readonly name: string
  readonly platform: 'linux' | 'win'
  readonly arch: 'x64' | 'arm64'
  /** As Node and npm's packages of native addons spell it. */
  readonly natively: string
  /** The file's name in dist/. */
  readonly executable: string
}

export const targets: readonly Target[] = [
  { name: 'linux-x64', platform: 'linux', arch: 'x64', natively: 'linux-x64', executable: 'daemonguard' },
  { name: 'linux-arm64', platform: 'linux', arch: 'arm64', natively: 'linux-arm64', executable: 'daemonguard-linux-arm64' },
  { name: 'win-x64', platform: 'win', arch: 'x64', natively: 'win32-x64', executable: 'daemonguard.exe' },
]

/** The target that runs on this machine; undefined where there is none. */
export const ofThisMachine: Target | undefined = targets.find(({ natively }) => natively === `${process.platform}-${process.arch}`)
