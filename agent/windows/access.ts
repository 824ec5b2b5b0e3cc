/**
 * What 0600 and 0700 mean on Windows: an access list of its own, which nothing from the directory above is added to, with the user of this process,
 * the system and the machine's administrators, and nobody else. In the words of SDDL ("Security Descriptor String Format").
 */

import koffi from 'koffi'
import { type Handle, kernel, lastError } from './kernel.ts'

const TOKEN_QUERY = 8
const TokenUser = 1
const DACL_SECURITY_INFORMATION = 4
const PROTECTED_DACL_SECURITY_INFORMATION = 0x80000000

let restricted: ReturnType<typeof prepare> | undefined

/** Makes a file or a directory, and what will be created in it, ours alone. Throws what the system says. */
export function restrict(path: string): void {
  restricted ??= prepare()
  if (restricted.setFileSecurity(path, DACL_SECURITY_INFORMATION + PROTECTED_DACL_SECURITY_INFORMATION, restricted.list) === 0)
    throw Object.assign(new Error(`the access list of ${path} cannot be set: ${lastError()}`), { code: 'EACCES' })
}

function prepare() {
  const library = koffi.load('advapi32.dll')
  const openToken = library.func('int OpenProcessToken(intptr_t process, uint32_t access, void *token)')
  const tokenInformation = library.func(
    'int GetTokenInformation(intptr_t token, int kind, void *information, uint32_t bytes, void *needed)',
  )
  const sidToString = library.func('int ConvertSidToStringSidW(intptr_t sid, _Out_ str16 *text)')
  const fromString = library.func(
    'int ConvertStringSecurityDescriptorToSecurityDescriptorW(str16 text, uint32_t revision, void *descriptor, void *bytes)',
  )
  const must = (result: number) => {
    if (result === 0) throw new Error(`this process's user cannot be told: ${lastError()}`)
  }
  const pointer = Buffer.alloc(8)
  const taken = (): Handle => Number(pointer.readBigInt64LE())
  must(openToken(kernel().currentProcess(), TOKEN_QUERY, pointer))
  const token = taken()
  // TOKEN_USER: a pointer to the user's SID, which lies behind it.
  const user = Buffer.alloc(256)
  must(tokenInformation(token, TokenUser, user, user.length, Buffer.alloc(4)))
  kernel().closeHandle(token)
  const sid: [string] = ['']
  must(sidToString(Number(user.readBigInt64LE()), sid))
  // Full rights (FA), inherited by files and directories (OICI): the system, the administrators, the user.
  const entries = ['SY', 'BA', sid[0]].map((who) => `(A;OICI;FA;;;${who})`)
  must(fromString(`D:P${entries.join('')}`, 1, pointer, null))
  return {
    list: taken(),
    setFileSecurity: library.func('int SetFileSecurityW(str16 path, uint32_t kind, intptr_t descriptor)') as (
      path: string,
      kind: number,
      descriptor: Handle,
    ) => number,
  }
}
