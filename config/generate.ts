import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { configSchema } from './schema.ts'

/** Where the generated file stands. */
export const SCHEMA_PATH = fileURLToPath(new URL('edge-gateway.schema.json', import.meta.url))

/** JSON Schema (draft 7, which editors know best) of the config file, as text. */
export function jsonSchemaText(): string {
  const schema = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-7', override: addExample })
  const { $schema, ...rest } = schema
  const titled = { $schema, title: 'Edge gateway configuration', ...rest }
  return `${JSON.stringify(titled, null, 2)}\n`
}

/** zod leaves out `examples` of what it transforms; ours travel as `example`. */
function addExample({ jsonSchema }: { jsonSchema: { [key: string]: unknown } }): void {
  if (jsonSchema['example'] === undefined) return
  jsonSchema['examples'] = [jsonSchema['example']]
  delete jsonSchema['example']
}

/** Writes the file, or with `--check` says whether it is up to date. */
function main(): void {
  const text = jsonSchemaText()
  if (!process.argv.includes('--check')) writeFileSync(SCHEMA_PATH, text)
  else if (readFileSync(SCHEMA_PATH, 'utf8') !== text) {
    process.stderr.write('config/edge-gateway.schema.json is out of date; run npm run schema\n')
    process.exitCode = 1
  }
}

if (import.meta.main) main()
