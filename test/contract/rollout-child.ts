/** A controller of its own, to be killed: `node rollout-child.ts PORT NAME`. It says what it logs. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { RolloutController } from '../../daemon/patch/rollout/controller.ts'
import { plainReader } from '../fakes/rollout.ts'
import { forever, toolsFor } from './etcd-kit.ts'

export const CONTROLLER_TTL_MS = 2_000

export function startController(port: number, name: string): ChildProcess {
  return fork(fileURLToPath(import.meta.url), [String(port), name], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
}

async function main([port = '', name = '']: readonly string[]): Promise<void> {
  const say = (fields: object, message: string): void => void process.send?.({ ...fields, message })
  const log = { debug: say, info: say, warn: say, error: say }
  const settings = { owner: { gateway: name, life: String(process.pid) }, ttlMs: CONTROLLER_TTL_MS, busyMs: 500, idleMs: 500, pauseMs: 20 }
  const controller = new RolloutController(toolsFor(Number(port)), settings, plainReader, log)
  await controller.start(forever)
  process.once('disconnect', () => process.exit())
}

if (import.meta.main) await main(process.argv.slice(2))
