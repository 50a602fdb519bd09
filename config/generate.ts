import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { patchSchemas } from './patch/schema.ts'
import { configSchema } from './schema.ts'

/** Where the generated files stand. */
export const SCHEMA_PATH = fileURLToPath(new URL('edge-gateway.schema.json', import.meta.url))
export const PATCH_SCHEMA_PATH = fileURLToPath(new URL('patch.schema.json', import.meta.url))

/** JSON Schema (draft 7, which editors know best) of the config file, as text. */
export function jsonSchemaText(): string {
  return textOf(configSchema, 'Edge gateway configuration')
}

/** The same of the patch document. */
export function patchSchemaText(): string {
  const { config, files, device } = patchSchemas
  return textOf(z.discriminatedUnion('kind', [config, files, device]), 'Edge gateway patch')
}

function textOf(type: z.ZodType, title: string): string {
  const schema = z.toJSONSchema(type, { io: 'input', target: 'draft-7', override: addExample })
  const { $schema, ...rest } = schema
  return `${JSON.stringify({ $schema, title, ...rest }, null, 2)}\n`
}

/** zod leaves out `examples` of what it transforms; ours travel as `example`. */
function addExample({ jsonSchema }: { jsonSchema: { [key: string]: unknown } }): void {
  if (jsonSchema['example'] === undefined) return
  jsonSchema['examples'] = [jsonSchema['example']]
  delete jsonSchema['example']
}

/** Writes the files, or with `--check` says whether they are up to date. */
function main(): void {
  const files: readonly (readonly [string, string])[] = [
    [SCHEMA_PATH, jsonSchemaText()],
    [PATCH_SCHEMA_PATH, patchSchemaText()],
  ]
  for (const [path, text] of files) {
    if (!process.argv.includes('--check')) writeFileSync(path, text)
    else if (readFileSync(path, 'utf8') !== text) {
      process.stderr.write(`${path} is out of date; run npm run schema\n`)
      process.exitCode = 1
    }
  }
}

if (import.meta.main) main()
