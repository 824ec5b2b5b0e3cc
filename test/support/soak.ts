/** The long form of a test: SOAK=1, which `npm run soak` sets (test/soak.ts). */

export const soak = process.env.SOAK === '1'

/** When a test that counts should stop counting, in milliseconds since the Unix epoch: the end of its share of the soak. */
const until = process.env.SOAK_UNTIL === undefined ? Number.POSITIVE_INFINITY : Number(process.env.SOAK_UNTIL)

export function timeIsUp(): boolean {
  return Date.now() >= until
}
