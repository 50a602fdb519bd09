/** Where a daemon may listen whose configuration file is not valid any more: it goes on with what the file said before. */
import { readConfigFiles } from './files.ts'
import { layerFragment, parseFragment } from './fragment.ts'
import { DATA_DIR, STANDARD_FILE, type Host } from './host.ts'
import { mergeFragments } from './input.ts'
import { type JsonObject, objectOf, valueAt } from './merge.ts'

const STANDARD_SOCKET = `${DATA_DIR}/control.sock`

/**
 * Absolute paths of control sockets, the likeliest first: what can still be read of the files at `path`, then the
 * package's own place where it is the package's own file. Empty when nothing can be read of another file: the daemon of
 * the package is not the one that was asked for. Never throws.
 */
export function controlSockets(path: string, host: Host): readonly string[] {
  const standard = path === STANDARD_FILE ? [STANDARD_SOCKET] : []
  const [main, ...dropIns] = readConfigFiles(path)
  const texts = [main, ...dropIns].flatMap((file) => (file !== undefined && 'text' in file ? [file] : []))
  if (main === undefined || 'problem' in main) return standard
  const fragments = texts.map(
    (file) => parseFragment(file.path, file.text, host.environment).fragment ?? layerFragment(file.path, guessed(file.text)),
  )
  const written = valueAt(mergeFragments(fragments, host).value, ['control', 'socket'])
  return [...new Set([...(typeof written === 'string' && written.startsWith('/') ? [written] : []), ...standard])]
}

/** Of a text that is no YAML: `dataDir: /path` and `socket: /path`, wherever they stand. */
function guessed(text: string): JsonObject {
  const [, dataDir] = /^[^#\n]*\bdataDir\s*:\s*["']?(\/[^\s"'#,}]+)/m.exec(text) ?? []
  const [, socket] = /^control\s*:[\s{]*socket\s*:\s*["']?(\/[^\s"'#,}]+)/m.exec(text) ?? []
  return objectOf([
    ...(dataDir === undefined ? [] : [['gateway', objectOf([['dataDir', dataDir]])] as const]),
    ...(socket === undefined ? [] : [['control', objectOf([['socket', socket]])] as const]),
  ])
}
