/** Runs many commands one after the other in one program: a process for each would take minutes. */
import { readFileSync, writeFileSync } from 'node:fs'
import { edgectl } from '../../daemon/cli/edgectl.ts'

export interface Ran {
  readonly args: readonly string[]
  readonly code: number
  readonly out: string
  readonly err: string
  readonly ms: number
}

const [, , input = '', output = ''] = process.argv

async function run(args: readonly string[]): Promise<Ran> {
  const text = { out: '', err: '' }
  const keep = (name: 'out' | 'err') => (chunk: string | Uint8Array) => {
    text[name] += String(chunk)
    return true
  }
  const { stdout, stderr } = process
  const [writeOut, writeErr] = [stdout.write.bind(stdout), stderr.write.bind(stderr)]
  Object.assign(stdout, { write: keep('out') })
  Object.assign(stderr, { write: keep('err') })
  process.exitCode = undefined
  const started = performance.now()
  try {
    await edgectl(['node', 'edgectl', ...args])
  } catch (error) {
    text.err += error instanceof Error ? (error.stack ?? '') : String(error)
  } finally {
    Object.assign(stdout, { write: writeOut })
    Object.assign(stderr, { write: writeErr })
    for (const one of [process, stdout, stderr]) one.removeAllListeners(one === process ? 'uncaughtException' : 'error')
  }
  return { args, code: Number(process.exitCode ?? 0), ...text, ms: performance.now() - started }
}

const results: Ran[] = []
for (const args of JSON.parse(readFileSync(input, 'utf8')) as string[][]) {
  results.push(await run(args))
  writeFileSync(output, JSON.stringify(results))
}
process.exit(0)
