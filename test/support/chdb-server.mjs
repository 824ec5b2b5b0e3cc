/**
 * ClickHouse's HTTP protocol, as far as @clickhouse/client uses it, in front of a chdb Session.
 * Usage: node chdb-server.mjs PORT DIRECTORY
 * The text of a request is `query` from the URL, a line break, and the body; other URL parameters are settings of that one query.
 */

import http from 'node:http'
import { createRequire } from 'node:module'
import zlib from 'node:zlib'

const [port, directory] = process.argv.slice(2)
const { Session } = createRequire(new URL('../.tools/', import.meta.url))('chdb')
const session = new Session(directory)

/** Parameters of the protocol (not settings), and settings that make no sense on one local session. */
const notSettings = new Set(
  'query query_id database default_format session_id session_timeout session_check quota_key user password role stacktrace compress decompress'.split(
    ' ',
  ),
)
const ignoredSettings =
  /^(async_insert|wait_for_async_insert|async_insert_.*|send_progress_in_http_headers|http_.*|enable_http_compression|wait_end_of_query|buffer_size)$/

let currentDatabase = 'default'
let queue = Promise.resolve()

const quoted = (text) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
const identifier = (text) => `\`${text.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``

/** Runs one query under its own database and settings, which are reset afterwards, come what may. */
async function run(parameters, body) {
  const database = parameters.get('database') || 'default'
  const settings = [...parameters].filter(([name]) => !notSettings.has(name) && !ignoredSettings.test(name))
  const set = []
  try {
    if (database !== currentDatabase) {
      await session.queryAsync(`USE ${identifier(database)}`)
      currentDatabase = database
    }
    for (const [name, value] of settings) {
      await session.queryAsync(`SET ${name} = ${quoted(value)}`)
      set.push(name)
    }
    const query = parameters.get('query')
    const text = query === null ? body : body === '' ? query : `${query}\n${body}`
    const result = await session.queryAsync(text, { format: parameters.get('default_format') ?? 'TabSeparated' })
    return result.bytes()
  } finally {
    for (const name of set) if (!name.startsWith('param_')) await session.queryAsync(`SET ${name} = DEFAULT`)
  }
}

/** Code and text of an error the way a server sends them: `Code: 60. DB::Exception: …. (UNKNOWN_TABLE)`. */
function describe(error) {
  const text = String(error?.message ?? error).replace(/^Query failed: /, '')
  const code = /Code: (\d+)\./.exec(text)?.[1] ?? '1002'
  return { code, text: text.startsWith('Code:') ? text : `Code: ${code}. DB::Exception: ${text}. (UNKNOWN_EXCEPTION)` }
}

async function readBody(request) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const bytes = Buffer.concat(chunks)
  return (request.headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(bytes) : bytes).toString('utf8')
}

const server = http.createServer(async (request, response) => {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1')
  if (url.pathname === '/ping') {
    request.resume()
    response.end('Ok.\n')
    return
  }
  try {
    const body = await readBody(request)
    const answer = queue.then(() => run(url.searchParams, body))
    queue = answer.then(
      () => {},
      () => {},
    )
    const bytes = await answer
    const queryId = url.searchParams.get('query_id')
    if (queryId) response.setHeader('X-ClickHouse-Query-Id', queryId)
    response.setHeader('X-ClickHouse-Server-Display-Name', 'chdb')
    response.setHeader('X-ClickHouse-Summary', '{"read_rows":"0","read_bytes":"0","written_rows":"0","written_bytes":"0"}')
    response.end(bytes)
  } catch (error) {
    const { code, text } = describe(error)
    response.writeHead(code === '60' || code === '81' ? 404 : 500, {
      'X-ClickHouse-Exception-Code': code,
      'Content-Type': 'text/plain; charset=UTF-8',
    })
    response.end(`${text}\n`)
  }
})
server.on('error', (error) => {
  console.error(String(error))
  process.exit(1)
})
server.listen(Number(port), '127.0.0.1')

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close()
    server.closeAllConnections()
    queue.finally(() => {
      session.close()
      process.exit(0)
    })
  })
}
