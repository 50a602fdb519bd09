import {
  type Document,
  type ParsedNode,
  type YAMLError,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  Scalar,
} from 'yaml'
import { type Environment, hasReference, interpolate } from './interpolate.ts'
import { type Json, type JsonObject, isObject, objectOf } from './merge.ts'
import type { Origin, Path, Problem } from './problem.ts'
import { shown, Wrong } from './units.ts'

/** One file or layer: the first of three stages (fragment → merged input → validated settings). */
export interface Fragment {
  /** Path of the file, or the label of the layer. */
  readonly source: string
  readonly value: JsonObject
  /** Where a path was written; the key's place if `what` is `key`. Undefined if this fragment has no such path. */
  origin(path: Path, what: 'key' | 'value'): Origin | undefined
}

export interface FragmentResult {
  /** Undefined when the text is no YAML. */
  readonly fragment: Fragment | undefined
  readonly problems: readonly Problem[]
}

/** Nesting that no real config reaches. */
const MAX_DEPTH = 32
const TOO_DEEP = 'nested too deeply to be read; write it flatter'
/** Nodes after aliases are expanded: an "anchor bomb" stops here, in a few milliseconds. */
const MAX_NODES = 20_000

interface Place {
  readonly key: Origin | undefined
  readonly value: Origin
}

interface Reading {
  readonly source: string
  readonly document: Document.Parsed
  readonly lines: LineCounter
  /** Undefined: `${…}` is text like any other. */
  readonly environment: Environment | undefined
  readonly problems: Problem[]
  readonly places: Map<string, Place>
  nodes: number
}

/**
 * Parses one YAML 1.2 document whose root is a map. An empty text is an empty map. Never throws. Without an
 * `environment` nothing is interpolated (a patch means the same on every box).
 */
export function parseFragment(source: string, text: string, environment: Environment | undefined): FragmentResult {
  const lines = new LineCounter()
  const documents = parseDocuments(text, lines)
  if (documents === undefined) {
    return { fragment: undefined, problems: [{ severity: 'error', origin: { source, line: 1, column: 1 }, path: [], message: TOO_DEEP }] }
  }
  const first = documents[0]
  if (first === undefined) return { fragment: fragmentOf(source, objectOf([]), new Map()), problems: [] }
  const reading: Reading = { source, document: first, lines, environment, problems: [], places: new Map(), nodes: 0 }
  for (const error of worthTelling(first)) complain(reading, error.pos[0], [], explain(error, text))
  if (documents.length > 1) complain(reading, documents[1]?.range[0] ?? 0, [], 'a second document begins here; keep one, without "---"')
  // A key written twice can still be read; anything else would make the rest a guess.
  if (!first.errors.every(isDuplicate) || documents.length > 1) return { fragment: undefined, problems: reading.problems }
  return readRoot(reading, first.contents)
}

/** Undefined when the parser, which is recursive, ran out of stack. */
function parseDocuments(text: string, lines: LineCounter): readonly Document.Parsed[] | undefined {
  try {
    const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, strict: true, logLevel: 'silent' })
    return Array.isArray(parsed) ? parsed : []
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** After the first place that can't be read, the parser guesses; what it finds then follows from the first. */
function worthTelling({ errors, warnings }: Document.Parsed): readonly YAMLError[] {
  return [...errors.filter(isDuplicate), ...errors.filter((error) => !isDuplicate(error)).slice(0, 1), ...warnings]
}

function isDuplicate({ code }: YAMLError): boolean {
  return code === 'DUPLICATE_KEY'
}

/** A layer that is no file: a committed patch, an override. Nothing in it is interpolated. */
export function layerFragment(label: string, patch: JsonObject): Fragment {
  const places = new Map<string, Place>()
  const origin = { source: label }
  const visit = (value: Json, path: Path): void => {
    places.set(placeKey(path), { key: origin, value: origin })
    if (Array.isArray(value))
      value.forEach((item: Json, index) => {
        visit(item, [...path, index])
      })
    else if (isObject(value)) for (const key of Object.keys(value)) visit(value[key] ?? null, [...path, key])
  }
  visit(patch, [])
  return fragmentOf(label, patch, places)
}

function fragmentOf(source: string, value: JsonObject, places: ReadonlyMap<string, Place>): Fragment {
  return { source, value, origin: (path, what) => places.get(placeKey(path))?.[what] }
}

function placeKey(path: Path): string {
  return JSON.stringify(path)
}

function readRoot(reading: Reading, contents: ParsedNode | null): FragmentResult {
  const empty = contents === null || (isScalar(contents) && contents.value === null)
  const value = empty ? objectOf([]) : readNode(reading, contents, [], undefined)
  if (isFull(reading)) return { fragment: undefined, problems: reading.problems }
  if (isObject(value)) return { fragment: fragmentOf(reading.source, value, reading.places), problems: reading.problems }
  const example = reading.environment === undefined ? '"kind: config"' : '"gateway: { id: gw-001 }"'
  complain(reading, contents?.range[0] ?? 0, [], `the file must hold keys and values; write for example ${example}`)
  return { fragment: undefined, problems: reading.problems }
}

/** Depth and node count are checked here, so that every way down passes them. */
function readNode(reading: Reading, node: ParsedNode | null, path: Path, keyOrigin: Origin | undefined): Json {
  reading.nodes += 1
  const start = node?.range[0]
  const value = start === undefined ? (keyOrigin ?? { source: reading.source }) : originAt(reading, start)
  reading.places.set(placeKey(path), { key: keyOrigin, value })
  if (path.length > MAX_DEPTH) return refuse(reading, value, path, `nested more than ${MAX_DEPTH} levels deep; write it flatter`)
  if (isFull(reading)) return reading.nodes === MAX_NODES + 1 ? refuse(reading, value, path, TOO_MANY) : null
  if (isAlias(node)) return readAlias(reading, node, path, keyOrigin)
  if (isScalar(node)) return readScalar(reading, node, path)
  if (isSeq(node)) return node.items.map((item, index) => readNode(reading, item as ParsedNode | null, [...path, index], undefined))
  if (isMap(node)) return readMap(reading, node.items, path)
  return null
}

interface MapPair {
  readonly key: ParsedNode | null
  readonly value: ParsedNode | null
}

function readMap(reading: Reading, pairs: readonly MapPair[], path: Path): Json {
  const entries: (readonly [string, Json])[] = []
  for (const { key, value } of pairs) {
    const name = keyName(key)
    const origin = originAt(reading, key?.range[0] ?? 0)
    if (name === undefined) refuse(reading, origin, path, 'a key must be plain text; quote it if it is meant')
    else if (name === '__proto__') refuse(reading, origin, path, 'the key __proto__ is not allowed; remove it')
    else entries.push([name, readNode(reading, value, [...path, name], origin)])
  }
  return objectOf(entries)
}

const TOO_MANY = `more than ${MAX_NODES} values; write fewer aliases (*name)`

/** After the first value too many nothing more is read: memory stays small, and one line tells it. */
function isFull(reading: Reading): boolean {
  return reading.nodes > MAX_NODES
}

function keyName(key: ParsedNode | null): string | undefined {
  if (!isScalar(key) || key.value === null) return undefined
  return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value))
}

function readAlias(reading: Reading, node: ParsedNode, path: Path, keyOrigin: Origin | undefined): Json {
  if (!isAlias(node)) return null
  const origin = originAt(reading, node.range?.[0] ?? 0)
  const target = node.resolve(reading.document) as ParsedNode | undefined
  if (target === undefined) return refuse(reading, origin, path, `no anchor &${node.source} before this alias; write the value out`)
  if (target.range[0] <= node.range[0] && node.range[0] < target.range[2])
    return refuse(reading, origin, path, `*${node.source} stands inside of what it names; write the value out`)
  return readNode(reading, target, path, keyOrigin)
}

function readScalar(reading: Reading, node: Scalar.Parsed, path: Path): Json {
  const { value } = node
  if (typeof value === 'string' && reading.environment !== undefined && hasReference(value))
    return readReference(reading, reading.environment, node, value, path)
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  return refuse(
    reading,
    originAt(reading, node.range[0]),
    path,
    `${node.source} is no number that can be used here; write a plain decimal number`,
  )
}

function readReference(reading: Reading, environment: Environment, node: Scalar.Parsed, text: string, path: Path): Json {
  const result = interpolate(text, environment)
  if (result instanceof Wrong) return refuse(reading, originAt(reading, node.range[0]), path, result.message)
  return node.type === Scalar.PLAIN ? plainValue(result) : result
}

/**
 * What an unquoted scalar means after interpolation (YAML 1.2 core schema, without octal and hex): so that
 * `receiveMaximum: ${N}` is a number. The text can't bring structure of its own.
 */
function plainValue(text: string): Json {
  if (/^-?(0|[1-9]\d{0,14})(\.\d+)?$/.test(text)) return Number(text)
  if (text === 'true' || text === 'false') return text === 'true'
  return text
}

function refuse(reading: Reading, origin: Origin, path: Path, message: string): null {
  reading.problems.push({ severity: 'error', origin, path, message })
  return null
}

function complain(reading: Reading, position: number, path: Path, message: string): void {
  refuse(reading, originAt(reading, position), path, message)
}

function originAt(reading: Reading, position: number): Origin {
  const { line, col } = reading.lines.linePos(position)
  return { source: reading.source, line: Math.max(line, 1), column: Math.max(col, 1) }
}

/** The parser's own words, save for the mistakes that people make most. */
function explain(error: YAMLError, text: string): string {
  switch (error.code) {
    case 'DUPLICATE_KEY':
      return `the key ${keyAt(text, error.pos[0])} is written twice in one map; keep one`
    case 'TAB_AS_INDENT':
      return 'a tab is used for indentation; write spaces'
    case 'TAG_RESOLVE_FAILED':
      return `tags are not supported (${error.message}); remove the word that begins with "!"`
    default:
      return explainOther(error, text)
  }
}

function explainOther(error: YAMLError, text: string): string {
  const lineStart = text.lastIndexOf('\n', error.pos[0] - 1) + 1
  const line = text.slice(lineStart, Math.max(text.indexOf('\n', error.pos[0]), error.pos[0]))
  if (error.message.includes('call stack')) return TOO_DEEP
  if (/[{[].*\$\{/.test(line)) return 'inside { } or [ ] a reference needs quotes; write for example { id: "${NAME}" }'
  return `not valid YAML: ${error.message}`
}

function keyAt(text: string, position: number): string {
  return /^[^\s:]{1,60}/.exec(text.slice(position))?.[0] ?? shown('')
}
