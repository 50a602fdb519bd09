import { Document, isAlias, isMap, isScalar, parseDocument } from 'yaml'
import { type Json, isObject, objectOf } from './merge.ts'
import { formatPath } from './problem.ts'

/** One value of a config file. `undefined` removes the key. */
export interface ConfigChange {
  readonly path: readonly string[]
  readonly value: Json | undefined
}

/**
 * The text of a config file with these values in it; comments and all other keys stay. The text must be one YAML document
 * that `parseFragment` takes. Throws, with what to do, where a value can't be put: under an alias.
 */
export function editConfig(text: string, changes: readonly ConfigChange[]): string {
  const document: Document = parseDocument(text)
  if (!isMap(document.contents)) document.contents = document.createNode({})
  for (const { path, value } of changes) {
    if (value === undefined) remove(document, path)
    else put(document, path, value)
  }
  return document.toString({ lineWidth: 0 })
}

function remove(document: Document, path: readonly string[]): void {
  if (document.hasIn(path)) document.deleteIn(path)
}

function put(document: Document, path: readonly string[], value: Json): void {
  for (let depth = 1; depth < path.length; depth += 1) openMap(document, path.slice(0, depth))
  const written = literal(value)
  document.setIn(path, isScalarValue(written) ? written : document.createNode(plain(written)))
}

/** `kafka:` without a value becomes a map to put keys into. */
function openMap(document: Document, path: readonly string[]): void {
  const node = document.getIn(path, true)
  if (isMap(node)) return
  if (isAlias(node)) throw new Error(`${formatPath(path)} stands for what is written elsewhere (*${node.source}); write it out first`)
  if (node === undefined || isScalar(node)) document.setIn(path, document.createNode({}))
  else throw new Error(`${formatPath(path)} is a list; write a map`)
}

function isScalarValue(value: Json): boolean {
  return value === null || typeof value !== 'object'
}

/** Nothing of an answer is a reference to a variable. */
function literal(value: Json): Json {
  if (typeof value === 'string') return value.replaceAll('${', () => '$${')
  if (Array.isArray(value)) return value.map(literal)
  return isObject(value) ? objectOf(Object.entries(value).map(([key, item]) => [key, literal(item)])) : value
}

/** The package's writer wants objects with a prototype. */
function plain(value: Json): unknown {
  if (Array.isArray(value)) return value.map(plain)
  return isObject(value) ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)])) : value
}
