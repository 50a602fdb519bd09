import { parse } from 'yaml'
import { type Json } from './merge.ts'
import { parseDuration, Wrong } from './units.ts'

/** `limits.perDevice.burst`, `mqtt.topics."a b".pattern`: as `formatPath` writes it. Undefined when it is no key. */
export function parseKey(text: string): readonly string[] | undefined {
  const step = /(?:(?<!^)\.|^)(?:([A-Za-z0-9_-]+)|("(?:[^"\\]|\\.)*"))(?=\.|$)/gy
  const steps: string[] = []
  while (step.lastIndex < text.length) {
    const found = step.exec(text)
    if (found === null) return undefined
    steps.push(found[1] ?? (JSON.parse(found[2] ?? '""') as string))
  }
  return steps.length === 0 ? undefined : steps
}

/** As the config file would hold it: `500`, `64MiB`, `[a, b]`. Throws with the reason when it is no YAML. */
export function parseValue(text: string): Json {
  return parse(text, { maxAliasCount: 0, logLevel: 'silent' }) as Json
}

/** ms, or what is wrong with it. */
export function parseSpan(text: string, maxMs: number): number | string {
  const ms = parseDuration(text, { min: 1_000, max: maxMs })
  return ms instanceof Wrong ? ms.message : ms
}
