import module from 'node:module'
import { fileURLToPath } from 'node:url'

const NEEDED = [22, 19]

/** Ends the program with one line when Node is older than the driver of the buffer and the source files allow. */
export function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return
  console.error(
    `edge-gateway needs Node ${NEEDED.join('.')} or later, and this is ${process.versions.node} (${process.execPath}). Node 24 LTS is recommended.`,
  )
  process.exit(69)
}

/**
 * Keeps what Node made of the source files. Without it each start loads the compiler that strips the types, which
 * costs 30 MB of memory for good. A folder that can't be written is no error: Node then goes without.
 */
export function cacheCompiledCode() {
  module.enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/edge-gateway', import.meta.url)))
}

/** Writes the cache now: a daemon that is killed never gets to do it at its exit. */
export function keepCompiledCode() {
  module.flushCompileCache()
}
