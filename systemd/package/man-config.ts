/** edge-gateway.yaml(5), from the schema that the daemon checks the file with. */
import { heading, item, roff, section } from './roff.ts'

interface Schema {
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly type?: string
  readonly examples?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
}

const ABOUT = `The file is YAML, and an empty one is valid. Files config.d/*.yaml beside it are merged over it in the order of their
names. Durations have a unit (250ms, 5s, 10m, 4h, 30d), and so have sizes (256KiB, 64MiB, 2GiB; 10MB is decimal).
\${NAME} and \${NAME:-default} are replaced from the environment. <name> stands for a name of your own.`

export function configManual(schemaText: string, day: string, version: string): string {
  const schema = JSON.parse(schemaText) as Schema
  const parts = Object.entries(schema.properties ?? {})
  return [
    heading('EDGE-GATEWAY.YAML', 5, day, version),
    section('NAME', 'edge\\-gateway.yaml \\- configuration of the edge gateway\n'),
    section('SYNOPSIS', '/etc/edge\\-gateway/config.yaml\n'),
    section('DESCRIPTION', `${roff(ABOUT)}\n`),
    ...parts.map(([key, part]) => section(key.toUpperCase(), `${roff(part.description ?? '')}\n${keysBelow(part, key)}`)),
    section('SEE ALSO', `${roff('edge-gateway(8), edgectl(1), /usr/share/doc/edge-gateway/example.yaml')}\n`),
  ].join('')
}

function keysBelow(schema: Schema, path: string): string {
  const named = Object.entries(schema.properties ?? {}).map(([key, child]) => keyText(child, `${path}.${key}`))
  const any = typeof schema.additionalProperties === 'object' ? [keysBelow(schema.additionalProperties, `${path}.<name>`)] : []
  const ways = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].map((way) => keysBelow(way, path))
  // Two ways to write a section share most of their keys.
  return [...new Set([...named, ...any, ...ways])].join('')
}

function keyText(schema: Schema, path: string): string {
  return item(path, ...facts(schema)) + keysBelow(schema, path)
}

function facts(schema: Schema): string[] {
  const { description, enum: words, default: preset, examples = [], minimum, maximum } = schema
  const shown = preset !== undefined && typeof preset !== 'object' ? [`Default: ${String(preset)}.`] : []
  const range = minimum !== undefined && maximum !== undefined ? [`From ${minimum} to ${maximum}.`] : []
  return [
    description ?? '',
    ...(words === undefined ? [] : [`One of ${words.map(String).join(', ')}.`]),
    [...range, ...shown].join(' '),
    ...examples.slice(0, 1).map((example) => `Example: ${typeof example === 'string' ? example : JSON.stringify(example)}`),
  ].filter((text) => text !== '')
}
