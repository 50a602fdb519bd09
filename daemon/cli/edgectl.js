#!/usr/bin/env node
// Plain JavaScript, so that a Node that is too old for the rest still says so in one clear line.
import { cacheCompiledCode, requireNode } from '../runtime.js'

requireNode()
cacheCompiledCode()
const { edgectl } = await import('./edgectl.ts')
await edgectl(process.argv)
