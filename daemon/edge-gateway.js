#!/usr/bin/env node
// Plain JavaScript, so that a Node that is too old for the rest still says so in one clear line.
import { requireNode } from './runtime.js'

requireNode()
const { main } = await import('./main.ts')
await main(process.argv)
