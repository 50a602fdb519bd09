import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import module from 'node:module'
import { PerformanceObserver } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import v8 from 'node:v8'

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

/** How far the old generation may grow beyond what lived at its last collection. V8 would quadruple it. */
const OLD_GROWTH_PERCENT = 30
/** Both halves together. V8 goes up to 128 MB on a machine with much memory, whatever we need. */
const YOUNG_BYTES = 12 * 1024 * 1024

/**
 * Keeps V8 from trading memory for speed as it does on a desktop: call it before anything large is loaded. V8 takes
 * its sizes only from the command line, but reads how fast it may grow at each collection; while the program is
 * loaded, what it allocates stays anyway, and a large young generation would only be left over.
 */
export function saveMemory() {
  v8.setFlagsFromString(`--heap-growing-percent=${OLD_GROWTH_PERCENT}`)
  allowYoungGrowth(false)
}

/**
 * Lets the young generation grow up to its limit, from when all is loaded: what lives for the time of a commit or of a
 * transaction must not grow old. It shrinks by itself when little is allocated, so it is looked at at each collection.
 */
export function growYoungGeneration() {
  let mayGrow = true
  allowYoungGrowth(mayGrow)
  const watch = new PerformanceObserver(() => {
    if (mayGrow === youngBytes() < YOUNG_BYTES) return
    mayGrow = !mayGrow
    allowYoungGrowth(mayGrow)
  })
  watch.observe({ entryTypes: ['gc'] })
}

function allowYoungGrowth(allowed) {
  v8.setFlagsFromString(`--semi-space-growth-factor=${allowed ? 2 : 1}`)
}

function youngBytes() {
  return v8.getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size
}

/**
 * Keeps what Node made of the source files. Without it each start loads the compiler that strips the types, which
 * costs 16 MB of memory per thread for good. A folder that can't be written is no error: Node then goes without.
 * Returns whether anything was kept before.
 */
export function cacheCompiledCode() {
  const folder = cacheFolder()
  if (folder === undefined) return true
  const { directory } = module.enableCompileCache(folder)
  // A worker thread does not inherit the cache, but reads this.
  process.env.NODE_COMPILE_CACHE = folder
  return INSTALLED || directory === undefined || readdirSync(directory).length > 0
}

/** The package holds JavaScript: nothing is stripped there, and a first start needs no compiler elsewhere. */
const INSTALLED = import.meta.url.startsWith('file:///usr/')

/**
 * Nothing may be written below /usr, so there only systemd names a folder. Only the daemon gets one: root must not run what
 * its user could have written.
 */
function cacheFolder() {
  return INSTALLED ? process.env.CACHE_DIRECTORY : fileURLToPath(new URL('../node_modules/.cache/edge-gateway', import.meta.url))
}

/** Writes the cache now: a daemon that is killed never gets to do it at its exit. */
export function keepCompiledCode() {
  module.flushCompileCache()
}

/** Fills the cache in a program of its own, so that this one never loads the compiler. If it fails, this one does. */
export function compileElsewhere() {
  spawnSync(process.execPath, [fileURLToPath(new URL('compile.js', import.meta.url))], { stdio: 'ignore', timeout: 30_000 })
}
