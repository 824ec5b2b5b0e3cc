/** `${NAME}` and `${NAME:-default}` in the values of a config. `$${` stands for a literal `${`. */

export type Environment = Readonly<Record<string, string | undefined>>

export interface Expansion {
  text: string
  /** Whether anything was replaced. */
  expanded: boolean
  /** What came out of the environment, by variable: never to be shown. */
  values: ReadonlyMap<string, string>
  /** What could not be replaced; names variables, never their values. */
  mistakes: readonly { message: string; hint: string }[]
}

/** Replaces every variable. As in a shell, `:-` also stands in for an empty one; what a variable holds is not expanded again. */
export function expand(text: string, env: Environment): Expansion {
  const values = new Map<string, string>()
  const mistakes: { message: string; hint: string }[] = []
  let expanded = false
  const result = text.replace(/\$\$\{|\$\{([^}]*)(\}?)/g, (whole, body: string | undefined, end: string) => {
    if (body === undefined) return '${'
    expanded = true
    const match = end === '' ? null : /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/.exec(body)
    if (match === null) {
      mistakes.push({
        message: end === '' ? 'a ${ is not closed' : 'between ${ and } stands no name of a variable',
        hint: 'write ${NAME} or ${NAME:-default}; a literal ${ is written $${',
      })
      return whole
    }
    const [, name, fallback] = match as unknown as [string, string, string | undefined]
    const value = env[name]
    if (value !== undefined && (value !== '' || fallback === undefined)) {
      values.set(name, value)
      return value
    }
    if (fallback !== undefined) return fallback
    mistakes.push({
      message: `the environment variable ${name} is not set`,
      hint: `set it (export ${name}=…, or Environment= of the service), or give a default: \${${name}:-default}`,
    })
    return whole
  })
  return { text: result, expanded, values, mistakes }
}
