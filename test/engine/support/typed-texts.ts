/** Random texts of DuckDB's types: such as writers of the type give, and those near them. */

import type { Random } from '../../support/random.ts'

export interface TypedTexts {
  /** DuckDB's names of the types. */
  readonly types: readonly string[]
  any(type: string): string
}

const labels = ['buy', 'sell', 'a,b', '', ' ', '\x1f']

export function typedTexts(random: Random): TypedTexts {
  const digits = (least: number, most: number) => Array.from({ length: random.int(least, most) }, () => random.int(0, 9)).join('')
  const sign = () => (random.chance(0.3) ? '-' : '')
  const two = (low: number, high: number) => String(random.int(low, high)).padStart(2, '0')
  const year = () => (random.chance(0.7) ? String(random.int(1960, 2060)) : String(random.int(0, 12_000)).padStart(4, '0'))
  const day = () => `${year()}-${two(0, 13)}-${two(random.chance(0.2) ? 28 : 0, 32)}`
  const time = () => `${two(0, 24)}:${two(0, 60)}:${two(0, 60)}`
  const fraction = () => (random.chance(0.6) ? `.${digits(1, 7)}` : '')
  const zone = () => random.pick(['Z', '+00', '-03', '+05:30', '-0330', '+14', '+15:59', ' UTC', '+1', '+24:00'])
  const whole = (most: number) => sign() + digits(1, most)
  const point = (before: number, after: number) => `${sign()}${digits(0, before)}.${digits(0, after)}`

  const common: Record<string, () => string> = {
    BOOLEAN: () => random.pick(['t', 'f', 'true', 'false', 'True', 'FALSE', '1', '0', 'yes', 'tru', 'trues']),
    TINYINT: () => whole(3),
    SMALLINT: () => whole(5),
    INTEGER: () => random.pick([() => whole(10), () => `${sign()}214748364${digits(1, 1)}`])(),
    BIGINT: () => random.pick([() => whole(15), () => whole(20), () => `${sign()}922337203685477580${digits(1, 1)}`])(),
    UTINYINT: () => whole(3),
    USMALLINT: () => whole(5),
    UINTEGER: () => whole(10),
    UBIGINT: () => random.pick([() => whole(20), () => `1844674407370955161${digits(1, 1)}`])(),
    DOUBLE: () =>
      random.pick([
        () => String((random.float() - 0.5) * 10 ** random.int(-8, 20)),
        () => (random.float() * 1e6).toFixed(random.int(0, 10)),
        () => point(12, 12),
        () => point(18, 18),
        () => `${point(3, 6)}e${sign()}${digits(1, 3)}`,
        () => whole(18),
      ])(),
    'DECIMAL(18,8)': () =>
      random.pick([() => point(7, 8), () => point(12, 10), () => whole(11), () => (random.float() * 1e5).toFixed(8)])(),
    'DECIMAL(9,2)': () => random.pick([() => point(7, 2), () => point(8, 3), () => whole(9)])(),
    'DECIMAL(4,0)': () => whole(5),
    'DECIMAL(18,18)': () => `0${point(0, 19)}`,
    HUGEINT: () => random.pick([() => whole(40), () => `${sign()}17014118346046923173168730371588410572${digits(1, 1)}`])(),
    UHUGEINT: () => random.pick([() => whole(40), () => `34028236692093846346337460743176821145${digits(1, 1)}`])(),
    FLOAT: () =>
      random.pick([
        () => String(Math.fround((random.float() - 0.5) * 10 ** random.int(-8, 20))),
        // Halfway between two of them, or next to it.
        () => String(2 ** 24 + random.int(1, 999)) + random.pick(['', '.0', '.0000000001']),
        () => `${point(3, 6)}e${sign()}${digits(1, 2)}`,
        () => point(12, 12),
      ])(),
    TIME: () => time() + fraction(),
    UUID: () => {
      const hex = Array.from({ length: 32 }, () => random.int(0, 15).toString(16)).join('')
      const dashed = hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
      return random.pick([hex, dashed, dashed.toUpperCase(), dashed.slice(1), `{${dashed}}`, dashed.replace('-', '')])
    },
    JSON: () =>
      random.pick([
        () => JSON.stringify({ a: random.float(), b: [null, 'ü"\\\n', digits(1, 5)], '\u2028': { c: true } }),
        () =>
          random.pick([
            '1',
            '"x"',
            'null',
            ' [1, 2] ',
            '[1,]',
            '{"a":1,"a":2}',
            '"\\ud800"',
            '"\\u0041"',
            '1e999',
            'NaN',
            "{'a': 1}",
            '"\t"',
            '-',
            '01',
            '1e5',
            '"\\x"',
          ]),
        () => `${whole(400)}`,
      ])(),
    [`ENUM(${labels.map((label) => `'${label}'`).join(', ')})`]: () => random.pick([...labels, 'Buy', 'x']),
    VARCHAR: () => random.pick(['', 'x', 'ü', '\x1f']),
    DATE: day,
    TIMESTAMP: () =>
      random.pick([
        () => `${day()} ${time()}${fraction()}`,
        () => `${day()}T${time()}`,
        day,
        () => `${day()} ${time()}${random.chance(0.3) ? fraction() : ''}${zone()}`,
      ])(),
    TIMESTAMPTZ: () => `${day()} ${time()}${fraction()}${zone()}`,
  }
  const odd = ['', ' ', '-', '.', '+1', ' 1', '1 ', '1_000', '0x10', '١', 'ü', 'NaN', 'inf', '-Infinity', 'null', '1e5', '1.', '.5', '--1']

  const any = (type: string): string => {
    const text = random.chance(0.05) ? random.pick(odd) : (common[type] as () => string)()
    if (text.length === 0 || random.chance(0.95)) return text
    // One letter of it is another.
    const at = random.int(0, text.length - 1)
    return text.slice(0, at) + random.pick(['0', '-', '.', ':', ' ', 'T', 'e', '+', 'x']) + text.slice(at + 1)
  }

  return { types: Object.keys(common), any }
}
