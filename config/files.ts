import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Origin, Problem } from './problem.ts'

/** A config file is a page of text. What is bigger is the wrong file. */
const MAX_FILE_BYTES = 1024 * 1024
const MAX_FILES = 100

interface FileText {
  readonly path: string
  readonly text: string
}
type FileResult = FileText | { readonly problem: Problem }

/** The main file, then `config.d/*.yaml` beside it in the order of their names (bytewise). Never throws. */
export function readConfigFiles(path: string): readonly FileResult[] {
  return [readConfigFile(path), ...listDropIns(join(dirname(path), 'config.d'))]
}

function listDropIns(folder: string): readonly FileResult[] {
  try {
    const names = readdirSync(folder)
      .filter((name) => name.endsWith('.yaml') && !name.startsWith('.'))
      .sort(bytewise)
    if (names.length > MAX_FILES) return [refusal({ source: folder }, `${names.length} files; keep at most ${MAX_FILES}`)]
    return names.map((name) => readConfigFile(join(folder, name)))
  } catch (error) {
    return codeOf(error) === 'ENOENT' ? [] : [failed(folder, error, 'read and list')]
  }
}

/** The same order on every box, whatever its locale. */
function bytewise(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

function readConfigFile(path: string): FileResult {
  try {
    const bytes = readBounded(path)
    return typeof bytes === 'string' ? refusal({ source: path }, bytes) : decode(path, bytes)
  } catch (error) {
    return failed(path, error, 'read')
  }
}

/** The bytes, or what is wrong. O_NONBLOCK: opening a FIFO must not hang the start. */
function readBounded(path: string): Uint8Array | string {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const facts = fstatSync(file)
    if (facts.isDirectory()) return 'this is a folder; name the file in it'
    if (!facts.isFile()) return 'this is no regular file; write the config to a file'
    if (facts.size > MAX_FILE_BYTES) return `${facts.size} bytes; a config file has at most ${MAX_FILE_BYTES} (1 MiB)`
    const bytes = Buffer.alloc(MAX_FILE_BYTES + 1)
    return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, 0))
  } finally {
    closeSync(file)
  }
}

function decode(path: string, bytes: Uint8Array): FileResult {
  const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)
  if (utf16) return refusal({ source: path, line: 1, column: 1 }, 'the file is UTF-16; save it as UTF-8')
  const zero = bytes.indexOf(0)
  if (zero >= 0) return refusal(placeOf(path, bytes, zero), 'a zero byte; the file is damaged (a power cut?), write it again')
  try {
    // Drops a UTF-8 byte order mark, as editors on Windows write it.
    return { path, text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch {
    return refusal(placeOf(path, bytes, firstInvalid(bytes)), 'bytes that are no UTF-8; save the file as UTF-8')
  }
}

/** Index of the first byte that no UTF-8 text has there: the longest prefix that still decodes, by halving. */
function firstInvalid(bytes: Uint8Array): number {
  let valid = 0
  let invalid = bytes.length
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >>> 1
    if (decodesSoFar(bytes.subarray(0, middle))) valid = middle
    else invalid = middle
  }
  return valid
}

/** An unfinished character at the end does not count as invalid. */
function decodesSoFar(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true })
    return true
  } catch {
    return false
  }
}

function placeOf(path: string, bytes: Uint8Array, index: number): Origin {
  const before = new TextDecoder().decode(bytes.subarray(0, index)).split('\n')
  return { source: path, line: before.length, column: (before[before.length - 1] ?? '').length + 1 }
}

function failed(path: string, error: unknown, verb: string): { readonly problem: Problem } {
  const { problem } = refusal({ source: path }, explain(error, verb))
  return { problem: isDenial(error) ? { ...problem, denied: true } : problem }
}

function isDenial(error: unknown): boolean {
  return ['EACCES', 'EPERM'].includes(codeOf(error) ?? '')
}

function explain(error: unknown, verb: string): string {
  const code = codeOf(error)
  if (code === 'ENOENT') return 'there is no such file; write it (an empty one is valid), or name another with --config'
  if (isDenial(error)) return `this user may not ${verb} it; give the group of the service access (chgrp, chmod g+r)`
  return `cannot ${verb} it: ${error instanceof Error ? error.message : String(error)}`
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

function refusal(origin: Origin, message: string): { readonly problem: Problem } {
  return { problem: { severity: 'error', origin, path: [], message } }
}
