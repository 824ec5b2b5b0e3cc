/**
 * Who may get at the service's own files. %ProgramData% lets every user make directories and read what is in them, so ours gets an access list of its own: full
 * rights (FA), inherited by all that is made in it (OICI), for the system and the administrators alone. In the words of SDDL ("Security Descriptor String Format").
 */

import koffi from 'koffi'
import { type Handle, lastError } from './kernel.ts'

const OWNER_SECURITY_INFORMATION = 1
const DACL_SECURITY_INFORMATION = 4
/** Nothing is added to it from the directory above. */
const PROTECTED_DACL_SECURITY_INFORMATION = 0x80000000
const administratorsOnly = 'O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)'
/** SYSTEM, Administrators, TrustedInstaller. */
export const powers: readonly string[] = ['S-1-5-18', 'S-1-5-32-544', 'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464']

let loaded: ReturnType<typeof load> | undefined

/** Gives a file or directory to the administrators; nobody but they and the system may do anything with it. */
export function giveToAdministrators(path: string): void {
  const calls = library()
  const descriptor: [Handle] = [0]
  must(calls.fromText(administratorsOnly, 1, descriptor, null), path)
  const kind = OWNER_SECURITY_INFORMATION + DACL_SECURITY_INFORMATION + PROTECTED_DACL_SECURITY_INFORMATION
  must(calls.setFileSecurity(path, kind, descriptor[0]), path)
}

/** The SID of the owner, as text. */
export function ownerOf(path: string): string {
  const calls = library()
  const descriptor = Buffer.alloc(4096)
  must(calls.getFileSecurity(path, OWNER_SECURITY_INFORMATION, descriptor, descriptor.length, Buffer.alloc(4)), path)
  const owner: [Handle] = [0]
  must(calls.ownerOf(descriptor, owner, Buffer.alloc(4)), path)
  const text: [string] = ['']
  must(calls.sidText(owner[0], text), path)
  return text[0]
}

function must(result: number, path: string): void {
  if (result === 0) throw new Error(`the access list of ${path}: ${lastError()}`)
}

function library() {
  loaded ??= load()
  return loaded
}

function load() {
  const advapi = koffi.load('advapi32.dll')
  return {
    // What it makes is never freed: 100 bytes, once or twice in the life of a command.
    fromText: advapi.func(
      'int ConvertStringSecurityDescriptorToSecurityDescriptorW(str16 text, uint32_t revision, _Out_ intptr_t *descriptor, void *size)',
    ) as (text: string, revision: 1, descriptor: [Handle], size: null) => number,
    setFileSecurity: advapi.func('int SetFileSecurityW(str16 path, uint32_t kind, intptr_t descriptor)') as (
      path: string,
      kind: number,
      descriptor: Handle,
    ) => number,
    getFileSecurity: advapi.func('int GetFileSecurityW(str16 path, uint32_t kind, void *descriptor, uint32_t size, void *needed)') as (
      path: string,
      kind: number,
      descriptor: Buffer,
      size: number,
      needed: Buffer,
    ) => number,
    ownerOf: advapi.func('int GetSecurityDescriptorOwner(void *descriptor, _Out_ intptr_t *owner, void *isDefault)') as (
      descriptor: Buffer,
      owner: [Handle],
      isDefault: Buffer,
    ) => number,
    sidText: advapi.func('int ConvertSidToStringSidW(intptr_t sid, _Out_ str16 *text)') as (sid: Handle, text: [string]) => number,
  }
}
