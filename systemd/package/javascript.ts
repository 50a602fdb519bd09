import { stripTypeScriptTypes } from 'node:module'

/** `from './x.ts'`, `import('./x.ts')` and `new URL('./x.ts', import.meta.url)`. */
const REFERENCE = /(\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)(['"])((?:\.{0,2}\/)?[^'"\n]*)\.ts\2/g

/**
 * Our source as the package holds it: types are replaced by blanks, so that lines and columns of an error stay those of the
 * source, and what names a `.ts` file names the `.mjs` file that it has become.
 */
export function toJavaScript(source: string, path: string): string {
  const plain = path.endsWith('.ts') ? stripTypeScriptTypes(source) : source
  const text = plain.replaceAll(REFERENCE, '$1$2$3.mjs$2').replaceAll(/[ \t]+$/gm, '')
  if (/['"]\.{0,2}\/?[\w./-]+\.ts['"]/.test(text)) throw new Error(`${path} names a .ts file in a way that the package build does not know`)
  return text
}

/** Beside some `x.ts` stands an `x.js`: hence another ending. */
export function javascriptName(path: string): string {
  return path.replace(/\.ts$/, '.mjs')
}
