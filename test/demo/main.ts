/**
 * `npm run demo`: the log path, live; with `--patch` a fleet that is patched while logs flow. Real mosquitto is not
 * needed here, since the gateways listen themselves; Kafka and etcd are real. At the end kcat reads Kafka back and the
 * judge counts.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startKafka } from '../services/index.ts'
import { ensurePackages } from '../services/install.ts'
import { playLogs } from './logs.ts'
import { readOptions } from './options.ts'
import { playPatches } from './patches.ts'
import { Screen } from './screen.ts'

async function main(): Promise<void> {
  const options = readOptions()
  ensurePackages()
  const dir = await mkdtemp(join(tmpdir(), 'edge-demo-'))
  const screen = new Screen(options.json)
  try {
    screen.say('starting a real Kafka …')
    const kafka = await startKafka({ dir: join(dir, 'kafka') })
    try {
      process.exitCode = await (options.patch ? playPatches : playLogs)(options, dir, kafka, screen)
    } finally {
      await kafka.kill('SIGKILL')
    }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

await main()
