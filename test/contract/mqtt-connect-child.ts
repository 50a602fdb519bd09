/**
 * A small gateway for kill tests: it stores each payload as a line of a file, and settles after the fsync.
 * `node mqtt-connect-child.ts URL CLIENT-ID VERSION FOLDER`
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { FileMemory } from '../../adapters/mqtt/connect-memory.ts'
import { MqttConnection } from '../../adapters/mqtt/connect.ts'
import type { Delivery } from '../../daemon/ports.ts'
import { QUICK, settingsFor, TestLog } from './mqtt-connect-kit.ts'

export interface ChildGateway {
  readonly url: string
  readonly clientId: string
  readonly protocolVersion: 4 | 5
  readonly folder: string
}

export function startChild({ url, clientId, protocolVersion, folder }: ChildGateway): ChildProcess {
  const file = fileURLToPath(import.meta.url)
  return spawn(process.execPath, [file, url, clientId, String(protocolVersion), folder], { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Whole lines only: a torn one was never acknowledged. */
export function storedBy({ folder }: Pick<ChildGateway, 'folder'>): string[] {
  const file = join(folder, 'stored')
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : []
}

async function main([url = '', clientId = '', version, folder = '']: readonly string[]): Promise<void> {
  const file = openSync(join(folder, 'stored'), 'a')
  // What a kill tore would grow together with the next line.
  ftruncateSync(
    file,
    Buffer.byteLength(
      storedBy({ folder })
        .map((line) => `${line}\n`)
        .join(''),
    ),
  )
  let batch: Delivery[] = []
  const commit = (): void => {
    const committed = batch
    batch = []
    writeSync(file, committed.map(({ payload }) => `${String(payload)}\n`).join(''))
    fsyncSync(file)
    for (const delivery of committed) delivery.settle()
  }
  const offer = (delivery: Delivery): void => {
    if (batch.length === 0) setTimeout(commit, 5)
    batch.push(delivery)
  }
  const connection = new MqttConnection({
    name: 'child',
    settings: settingsFor(url, { clientId, protocolVersion: version === '4' ? 4 : 5, receiveMaximum: 200 }),
    clock: new SystemClock(),
    random: systemRandom,
    log: new TestLog(),
    memory: new FileMemory(join(folder, 'memory.json')),
    retry: QUICK,
  })
  await connection.start({ offer }, new AbortController().signal)
  setInterval(() => undefined, 60_000) // its own timers let the program end
}

if (import.meta.main) await main(process.argv.slice(2))
