/**
 * Writes to the box's memory until it is killed: `node memory-writer.ts DIR`. Each transaction sets `pair/a` and
 * `pair/b` to the same number, and large values beside them; a line with the number follows once it is durable.
 */
import { writeSync } from 'node:fs'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { Json } from '../../daemon/patch/memory.ts'
import { Outbox } from '../../store/outbox.ts'
import { SETTINGS, silent } from './store-rig.ts'

const [directory = ''] = process.argv.slice(2)
const outbox = new Outbox({ dataDir: directory, settings: SETTINGS, clock: new SystemClock(), random: systemRandom, log: silent })
await outbox.start(new AbortController().signal)
const before = (await outbox.memory.read('pair/')).get('pair/a') as number | undefined
writeSync(1, 'ready\n')
for (let number = (before ?? 0) + 1; ; number++) {
  const filler: Json = `${number} `.repeat(20_000)
  const changes = { 'pair/a': number, [`filler/${number % 7}`]: filler, [`filler/${(number + 3) % 7}`]: undefined, 'pair/b': number }
  await outbox.memory.write(changes)
  writeSync(1, `w ${number}\n`)
}
