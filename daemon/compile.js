// Loads all that the daemon loads, and ends: what Node made of it is kept for the daemon's start.
import { Worker } from 'node:worker_threads'
import { cacheCompiledCode, keepCompiledCode, saveMemory } from './runtime.js'

// The settings of V8 are part of what the cache is found by.
saveMemory()
cacheCompiledCode()
await import('./main.ts')
// What the daemon loads only when its configuration asks for it.
await import('./compose/patches.ts')
await import('./compose/page-server.ts')
await import('./compose/execute.ts')
keepCompiledCode()
// It fails for want of a directory, when all is loaded.
new Worker(new URL('../store/worker.ts', import.meta.url), { workerData: {} }).on('error', () => undefined)
