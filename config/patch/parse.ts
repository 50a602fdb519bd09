import type { z } from 'zod'
import { type Fragment, layerFragment, parseFragment } from '../fragment.ts'
import { type Finding, findingsOf, unknownKey } from '../issues.ts'
import { isObject, type Json, type JsonObject, objectOf } from '../merge.ts'
import { ConfigError, type Path, type Problem, sortProblems } from '../problem.ts'
import { configSchema } from '../schema.ts'
import { keysOf, schemaAt } from '../schema/walk.ts'
import { derivePatch } from './derive.ts'
import type { Patch } from './document.ts'
import { patchRules } from './rules.ts'
import { anyKindSchema, type ParsedPatch, patchSchemas } from './schema.ts'

/** The payload of a signed patch, at most. etcd takes 1.5 MiB for a whole request. */
export const PAYLOAD_BYTES_MAX = 256 * 1024
const VALUES_MAX = 20_000
const DEPTH_MAX = 32

/** A patch as people wrote it. */
export interface WrittenPatch {
  readonly patch: Patch
  /** As it stands in the file, keys in the file's order; what `patch sign` signs. */
  readonly value: JsonObject
  /** Where the value at a path was written, or the nearest parent of one that is absent. */
  origin(path: Path): Problem['origin']
}

/**
 * Reads YAML or JSON, and checks it as far as that is possible without a box: also the names and values of
 * configuration keys, by this release's schema.
 *
 * Throws a ConfigError with every problem found: file, line, column, path and what to write instead.
 */
export function parsePatchText(source: string, text: string): WrittenPatch {
  const { fragment, problems } = parseFragment(source, text, undefined)
  if (fragment === undefined) throw new ConfigError(problems)
  const { patch, findings } = validate(fragment.value)
  const all = [...problems, ...placed([...findings, ...limits(fragment.value), ...configKeys(fragment.value)], fragment)]
  if (all.length > 0 || patch === undefined) throw new ConfigError(sortProblems(all, [source]))
  return { patch, value: fragment.value, origin: (path) => originOf(fragment, path, 'value') }
}

/**
 * Reads the payload of a verified envelope: JSON in UTF-8, each key once. Configuration keys are not looked at: a
 * box of another release may know others, and validates the whole when it applies them.
 *
 * Throws a ConfigError with every problem found.
 */
export function parsePatchPayload(bytes: Uint8Array): Patch {
  const source = 'payload'
  const value = readJson(bytes)
  if (typeof value === 'string') throw new ConfigError([{ severity: 'error', origin: { source }, path: [], message: value }])
  const { patch, findings } = validate(value)
  const problems = placed([...findings, ...limits(value)], layerFragment(source, value))
  if (problems.length > 0 || patch === undefined) throw new ConfigError(problems)
  return patch
}

function placed(findings: readonly Finding[], fragment: Fragment): readonly Problem[] {
  // One value may break several rules; what it breaks first says enough.
  const told = new Set<string>()
  const first = findings.filter(({ path }) => told.size < told.add(JSON.stringify(path)).size)
  return first.map(({ severity, path, message, unknownKey: unknown }) => ({
    ...{ severity, path, message },
    origin: originOf(fragment, path, unknown === true ? 'key' : 'value'),
  }))
}

/** Of the path, or of its nearest parent. */
function originOf(fragment: Fragment, path: Path, what: 'key' | 'value'): Problem['origin'] {
  const found = fragment.origin(path, what)
  if (found !== undefined) return found
  if (path.length === 0) return fragment.origin(path, 'value') ?? { source: fragment.source }
  return originOf(fragment, path.slice(0, -1), 'key')
}

function validate(value: JsonObject): { readonly patch?: Patch; readonly findings: readonly Finding[] } {
  const kind = value['kind']
  const schema: z.ZodType =
    typeof kind === 'string' && Object.hasOwn(patchSchemas, kind) ? patchSchemas[kind as keyof typeof patchSchemas] : anyKindSchema
  const result = schema.safeParse(value)
  if (!result.success) return { findings: withoutEchoes(findingsOf(result.error.issues, schema, value)) }
  const parsed = result.data as ParsedPatch
  const findings = [...patchRules(parsed)]
  return findings.length > 0 ? { findings } : { patch: derivePatch(parsed), findings }
}

/** `expire` for `expires` is one mistake, not also a missing key. */
function withoutEchoes(findings: readonly Finding[]): readonly Finding[] {
  const meant = new Set(
    findings.flatMap(({ path, meantKey }) => (meantKey === undefined ? [] : JSON.stringify([...path.slice(0, -1), meantKey]))),
  )
  return findings.filter(({ path, message }) => !(message.startsWith('missing') && meant.has(JSON.stringify(path))))
}

/** Numbers that JavaScript would round in silence. */
function* limits(value: Json, path: Path = []): Iterable<Finding> {
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value) && path[0] === 'spec')
    yield { severity: 'error', path, message: 'this number is too big to be kept exactly; write it as text, in quotes' }
  if (Array.isArray(value)) for (const [index, item] of value.entries()) yield* limits(item as Json, [...path, index])
  else if (isObject(value)) for (const [key, item] of Object.entries(value)) yield* limits(item, [...path, key])
}

/** Slips in a `config` spec: keys that this release does not have, values that it does not take. */
function configKeys({ kind, spec }: JsonObject): readonly Finding[] {
  return kind === 'config' && isObject(spec) ? below(spec, []) : []
}

function below(value: JsonObject, path: Path): readonly Finding[] {
  return Object.entries(value).flatMap(([key, item]) => {
    const here = [...path, key]
    const schema = schemaAt(configSchema, here)
    if (schema === undefined) return under(unknownKey(here, configSchema))
    if (item === null) return []
    if (isObject(item) && (keysOf(schema).size > 0 || schemaAt(schema, ['*']) !== undefined)) return below(item, here)
    const result = (schema as z.ZodType).safeParse(item)
    if (result.success) return []
    const issues = result.error.issues.map((issue) => ({ ...issue, path: [...here, ...issue.path] }))
    return findingsOf(issues, configSchema, nested(here, item)).flatMap(under)
  })
}

function under(finding: Finding): readonly Finding[] {
  return [{ ...finding, path: ['spec', ...finding.path] }]
}

function nested(path: Path, value: Json): Json {
  return path.reduceRight<Json>((inner, step) => objectOf([[String(step), inner]]), value)
}

/** The document, or what is wrong with it. */
function readJson(bytes: Uint8Array): JsonObject | string {
  if (bytes.length > PAYLOAD_BYTES_MAX) return `${bytes.length} bytes are too many; at most ${PAYLOAD_BYTES_MAX}`
  let text: string
  let parsed: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    parsed = JSON.parse(text)
  } catch (error) {
    return `it is no JSON in UTF-8 (${error instanceof Error ? error.message : String(error)}); sign it with \`edgectl patch sign\``
  }
  const count = { keys: 0, values: 0, tooLarge: false }
  const value = plain(parsed, 0, count)
  if (count.tooLarge) return `more than ${VALUES_MAX} values, or nested more than ${DEPTH_MAX} levels deep; write it smaller and flatter`
  if (!isObject(value)) return 'the document must be a map'
  // In JSON a string before a colon is a key, and nothing else is; JSON.parse keeps the last of two in silence.
  const written = [...text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)].filter((match) => match[1] !== undefined).length
  return written === count.keys ? value : 'a key is written twice in one map; keep one'
}

interface Count {
  keys: number
  values: number
  tooLarge: boolean
}

/** Without prototypes, so that no key is special. */
function plain(value: unknown, depth: number, count: Count): Json {
  count.values += 1
  count.tooLarge ||= depth > DEPTH_MAX || count.values > VALUES_MAX
  if (count.tooLarge) return null
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1, count))
  if (!isObject(value)) return value as Json
  const entries = Object.entries(value)
  count.keys += entries.length
  return objectOf(entries.map(([key, item]) => [key, plain(item, depth + 1, count)]))
}
