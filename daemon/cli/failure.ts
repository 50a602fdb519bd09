import { CommanderError } from 'commander'
import { DaemonUnreachable } from '../../adapters/control/client.ts'
import { ConfigError } from '../../config/problem.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { EXIT } from '../exit.ts'
import { harmless } from './text.ts'

interface Told {
  readonly message: string
  readonly remedy?: string | undefined
  readonly exit: number
}

/** Where nobody answers, as systemctl ends for a unit that does not run. */
const NOBODY = 3
const STUCK = 2
const SUDO = 'run it with sudo, or as a member of the group edge-gateway (sudo usermod -aG edge-gateway NAME, then log in again)'

/** Says what went wrong in a sentence, and what to do; never a stack trace. Returns the exit code. */
export function report(error: unknown, json = false): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  const found = toldOf(error)
  const told = { ...found, message: inWords(found.message) }
  console.error(harmless(told.message))
  if (told.remedy !== undefined) console.error(harmless(`  try: ${told.remedy}`))
  if (json) console.log(harmless(JSON.stringify({ schema: 1, error: told.message, remedy: told.remedy, exit: told.exit }, undefined, 2)))
  return told.exit
}

function toldOf(error: unknown): Told {
  if (error instanceof ConfigError) return ofConfig(error)
  if (error instanceof GatewayError) return { message: error.message, remedy: error.remedy ?? remedyOf(error.cause), exit: exitOf(error) }
  const system = systemError(error)
  return system ?? { message: `${messageOf(error)} (a fault in this program: report it)`, exit: EXIT.software }
}

/** A file that this user may not read says nothing against the configuration. */
function ofConfig(error: ConfigError): Told {
  const isDenied = error.problems.length > 0 && error.problems.every(({ denied }) => denied === true)
  return isDenied ? { message: error.message, remedy: SUDO, exit: EXIT.permission } : { message: error.message, exit: EXIT.config }
}

function exitOf(error: GatewayError): number {
  if (error instanceof DaemonUnreachable) return error.why === 'silent' ? STUCK : NOBODY
  if (isDenial(codeOf(error.cause))) return EXIT.permission
  return error.kind === 'transient' ? NOBODY : 1
}

function remedyOf(cause: unknown): string | undefined {
  return isDenial(codeOf(cause)) ? SUDO : undefined
}

/** What the system says of a file, in words. */
function systemError(error: unknown): Told | undefined {
  const { path, dest } = (error ?? {}) as NodeJS.ErrnoException & { readonly dest?: string }
  const code = codeOf(error)
  const file = dest ?? path ?? 'a file'
  if (code === undefined) return undefined
  if (isDenial(code)) return { message: `no permission for ${file}`, remedy: SUDO, exit: EXIT.permission }
  if (code === 'ENOENT') return { message: `there is no ${file}`, remedy: 'check how it is written', exit: 1 }
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return { message: `the disk that holds ${file} is full`, remedy: 'df -h shows which; free some room', exit: EXIT.io }
  if (code === 'EROFS') return { message: `${file} is on a disk that is mounted read-only`, remedy: 'dmesg | tail says why', exit: EXIT.io }
  return path === undefined ? undefined : { message: messageOf(error), exit: EXIT.io }
}

const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  ENOTDIR: 'it is no folder',
  ENOSPC: 'the disk is full',
  EROFS: 'the disk is mounted read-only',
  ECONNREFUSED: 'nobody listens there',
}

/** `ENOENT: no such file or directory, open '/x'`, as Node says it inside of a sentence of ours. */
function inWords(message: string): string {
  return message.replaceAll(/\b(E[A-Z]{3,}): [a-z ,-]+, \w+(?: '[^']*')?(?: -> '[^']*')?/g, (all, code: string) => WORDS[code] ?? all)
}

function isDenial(code: string | undefined): boolean {
  return code === 'EACCES' || code === 'EPERM'
}

function codeOf(error: unknown): string | undefined {
  const { code } = (error ?? {}) as NodeJS.ErrnoException
  return typeof code === 'string' ? code : undefined
}
