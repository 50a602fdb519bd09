#!/usr/bin/env node
// Plain JavaScript, so that a Node that is too old for the rest still says so in one clear line.
import { cacheCompiledCode, compileElsewhere, growYoungGeneration, keepCompiledCode, requireNode, saveMemory } from './runtime.js'

requireNode()
saveMemory()
if (!cacheCompiledCode()) compileElsewhere()
if (process.argv[2] === 'execute') {
  const { execute } = await import('./compose/execute.ts')
  await execute(process.argv.slice(3))
} else {
  const { main } = await import('./main.ts')
  keepCompiledCode()
  await main(process.argv, growYoungGeneration)
}
