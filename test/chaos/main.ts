/**
 * `npm run test:chaos -- --seed S --rounds N`: the gateway is killed with -9 at random instants under load; in half
 * of the rounds Kafka is cut off, paused, or killed and started again. Then kcat reads Kafka back and a judge counts.
 * A last, shorter run has devices without message ids: there duplicates are bounded by the publishes that had no
 * acknowledgement at a kill.
 *
 * The seed draws every instant and every fault; the machine's own timing still differs from run to run.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { freePort, startKafka, startProxy } from '../services/index.ts'
import { ensurePackages } from '../services/install.ts'
import { Dice } from './dice.ts'
import { Storm, type StormResult } from './storm.ts'

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '20' },
      keep: { type: 'boolean', default: false },
    },
  })
  const seed = Number(values.seed)
  const rounds = Number(values.rounds)
  if (!Number.isSafeInteger(seed) || !(rounds >= 1)) throw new Error('--seed takes a whole number, and --rounds at least 1')
  ensurePackages()
  const dir = await mkdtemp(join(tmpdir(), 'edge-chaos-'))
  const port = await freePort()
  const proxy = await startProxy({ target: port, kafka: true })
  const kafka = await startKafka({ dir: join(dir, 'kafka'), port, advertisedPort: proxy.port })
  const failures: string[] = []
  try {
    const dice = new Dice(seed)
    for (const [name, count, ids] of [
      ['with-ids', rounds, true],
      ['without-ids', Math.ceil(rounds / 10), false],
    ] as const) {
      const storm = new Storm({ name, dir: join(dir, name), kafka, proxy, dice, ids })
      failures.push(...judged(name, await storm.run(count)))
    }
  } finally {
    await kafka.kill('SIGKILL')
    await proxy.stop()
    if (failures.length > 0 || values.keep) console.error(`kept for a look: ${dir}`)
    else await rm(dir, { recursive: true, force: true })
  }
  for (const failure of failures) console.error(`FAILED (seed ${seed}): ${failure}`)
  process.exitCode = failures.length === 0 ? 0 : 1
}

function judged(name: string, result: StormResult): string[] {
  console.log(
    JSON.stringify({
      run: name,
      ...result,
      lost: result.lost.length,
      duplicates: result.duplicates.length,
      outOfOrder: result.outOfOrder.length,
      altered: result.altered.length,
    }),
  )
  const few = (ids: readonly string[]): string => ids.slice(0, 10).join(' ')
  const failures: string[] = []
  if (result.lost.length > 0) failures.push(`${name}: ${result.lost.length} acknowledged messages are lost: ${few(result.lost)}`)
  if (result.duplicates.length > result.duplicatesAllowed)
    failures.push(`${name}: ${result.duplicates.length} duplicates, allowed ${result.duplicatesAllowed}: ${few(result.duplicates)}`)
  if (result.outOfOrder.length > 0) failures.push(`${name}: ${result.outOfOrder.length} out of order: ${few(result.outOfOrder)}`)
  if (result.altered.length > 0) failures.push(`${name}: ${result.altered.length} altered: ${few(result.altered)}`)
  failures.push(...result.ledgerFaults.map((fault) => `${name}: ${fault}`))
  return failures
}

await main()
