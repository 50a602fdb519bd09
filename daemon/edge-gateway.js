#!/usr/bin/env node
// Plain JavaScript, so that a Node that is too old for the rest still says so in one clear line.
import { cacheCompiledCode, keepCompiledCode, requireNode } from './runtime.js'

requireNode()
cacheCompiledCode()
const { main } = await import('./main.ts')
keepCompiledCode()
await main(process.argv)
