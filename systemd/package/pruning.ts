import type { Architecture } from './architecture.ts'

/** What nobody loads at run time, in any package. */
const UNUSED_FILE =
  /(\.(ts|mts|cts|map|md|markdown|flow|tsbuildinfo|yml|c|cc|cpp|h|hh|inc|gyp|gypi|html|sh|tgz|lock|def)|(^|\/)(Makefile|CMakeLists\.txt|[^/]*\.ps1))$/i
const UNUSED_FOLDER = /(^|\/)\.|^bin\.m?js$|^((build\/)?bin|tests?|__tests__|examples?|docs?|benchmarks?|bench|coverage|demo|typings|man)\//
export const LICENCE_FILE = /^(licen[cs]e|copying|notice)([.-][^/]*)?$/i

/** Where a package holds more than one way to load it, the way that we take. */
const ONLY: Readonly<Record<string, RegExp>> = {
  '@babel/runtime': /^(package\.json|helpers\/(?!esm)|regenerator\/)/,
  bintrees: /^(index\.js|lib\/|package\.json)/,
  koffi: /^(package\.json|index\.c?js|src\/koffi\/(index\.c?js|src\/static\.c?js))$/,
  'lru-cache': /^(package\.json|dist\/(commonjs|esm)\/(index|diagnostics[^/]*|package)\.js(on)?|dist\/(commonjs|esm)\/[^/]*\.js)$/,
  mqtt: /^(package\.json|build\/|help\/)/,
  protobufjs: /^(?!dist\/|scripts\/|cli\/)/,
  zod: /^(?!.*\.cjs$|src\/)/,
}

/** Whether a file of a package, named by its path in it, travels to the box. */
export function isNeeded(name: string, path: string, { node }: Architecture): boolean {
  if (name === 'better-sqlite3')
    return /^(package\.json|lib\/(?!(linux|darwin|win32)))/.test(path) || path === `prebuilds/linux-${node}.node`
  if (name.startsWith('@koromix/koffi-')) return ['package.json', 'index.js', `linux_${node}/koffi.node`].includes(path)
  if (UNUSED_FILE.test(path) || UNUSED_FOLDER.test(path) || LICENCE_FILE.test(path)) return false
  return ONLY[name]?.test(path) ?? true
}
