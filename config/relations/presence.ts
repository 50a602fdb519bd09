import type { Finding } from '../issues.ts'
import type { Config } from '../schema.ts'
import { formatDuration } from '../units.ts'
import { type Relation, relation, warning } from './relation.ts'

export const presenceRelations: readonly Relation[] = [
  relation(['presence', 'mqtt'], linkIsFoundFirst),
  relation(['presence', 'ledger'], ledgerKnowsThem),
]

/** A dead link is found by its keepalive; until then its devices would be told of, one by one, for what they did not do. */
function* linkIsFoundFirst({ presence, mqtt }: Pick<Config, 'presence' | 'mqtt'>): Iterable<Finding> {
  const times = [
    { path: ['presence', 'silentAfter'], silentAfter: presence.silentAfter },
    ...Object.entries(presence.groups).map(([name, { silentAfter }]) => ({
      path: ['presence', 'groups', name, 'silentAfter'],
      silentAfter,
    })),
  ]
  const slowest = Math.max(0, ...Object.values(mqtt.connect ?? {}).map(({ keepalive }) => keepalive))
  for (const { path, silentAfter } of times) {
    if (silentAfter >= 2 * slowest) continue
    const advice = `write at least ${formatDuration(2 * slowest)}, or a shorter mqtt.connect keepalive`
    yield warning(
      path,
      `a broken link to a broker is found only after ${formatDuration(2 * slowest)}, and until then its devices look silent; ${advice}`,
    )
  }
}

function* ledgerKnowsThem({ presence, ledger }: Pick<Config, 'presence' | 'ledger'>): Iterable<Finding> {
  if (presence.maxDevices >= ledger.maxDevices) return
  yield warning(
    ['presence', 'maxDevices'],
    `fewer than the ${ledger.maxDevices} devices of ledger.maxDevices: some that are counted would not be watched; write as many`,
  )
}
