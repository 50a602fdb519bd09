/**
 * A holder of its own, to be paused or blocked: `node etcd-holder.ts PORT SCOPE MODE`. It prints one line of JSON for
 * each thing that happens. Mode `wake`: it notices by itself that it was away; mode `block`: blocks its own loop.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { kindOf } from '../../daemon/errors.ts'
import { withLease } from '../../daemon/patch/lock.ts'
import { registerKey } from '../fakes/lock-judge.ts'
import { forever, requestFor, toolsFor } from './etcd-kit.ts'

export interface Holder {
  readonly child: ChildProcess
  /** Resolves with the next line whose `event` is this. */
  next(event: string): Promise<Record<string, unknown>>
}

export function startHolder(port: number, scope: string, mode: 'wake' | 'block'): Holder {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), String(port), scope, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })
  const seen: Record<string, unknown>[] = []
  lines.on('line', (line) => {
    seen.push(JSON.parse(line) as Record<string, unknown>)
    lines.emit('seen')
  })
  const next = async (event: string): Promise<Record<string, unknown>> => {
    for (;;) {
      const found = seen.find((line) => line['event'] === event)
      if (found !== undefined) return found
      if (child.exitCode !== null) throw new Error(`the holder ended with ${child.exitCode} before "${event}"`)
      await new Promise<void>((resolve) => void lines.once('seen', resolve).once('close', resolve))
    }
  }
  return { child, next }
}

function say(event: string, fields: object = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)
}

/** Busy, as a long synchronous computation is. */
function blockFor(ms: number): void {
  const endMs = performance.now() + ms
  while (performance.now() < endMs);
}

async function main([port = '', scope = '', mode = '']: readonly string[]): Promise<void> {
  const tools = toolsFor(Number(port))
  const awayMs = 3_000
  const run = withLease(tools, requestFor(scope, 'child'), forever, async (token, signal) => {
    const write = { compare: [token.compare], then: [{ put: registerKey(scope), value: Buffer.from(String(token.revision)) }] }
    await tools.etcd.transact(write)
    say('holds', { token: token.revision })
    if (mode === 'block') blockFor(2 * 2_000 + 1_000)
    let lastMs = performance.now()
    for (;;) {
      if (mode === 'block' || performance.now() - lastMs > awayMs) {
        say('awake', { remainingMs: token.remainingMs(), aborted: signal.aborted })
        // A program that looked at no deadline at all is stopped by etcd.
        const { succeeded } = await tools.etcd.transact(write)
        say('wrote', { succeeded })
        token.assertFits(0)
        throw new Error('still allowed after its lease')
      }
      lastMs = performance.now()
      await sleep(20)
    }
  })
  await run.catch((error: unknown) => say('ended', { kind: kindOf(error), message: String(error) }))
  tools.etcd.close()
}

if (import.meta.main) await main(process.argv.slice(2))
