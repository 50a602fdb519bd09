import type { ImportFigures } from '../../move/figures.ts'
import { count, table } from '../text.ts'

/** `of gw-007: 41,000 of 90,000 messages left` */
export function importLine({ gateway, messages, left, state, deadLetters, reason }: ImportFigures): string {
  if (state === 'dead-letters')
    return `of ${gateway}: Kafka refused ${count(deadLetters)} of ${count(messages)} messages; see edgectl imports`
  const why = reason === undefined ? '' : `: ${reason}`
  return `of ${gateway}: ${count(left)} of ${count(messages)} messages left${state === 'waiting' ? ', waits for its turn' : ''}${why}`
}

export function importsView(imports: readonly ImportFigures[]): string {
  if (imports.length === 0) return 'no imports: all that was ever imported here is delivered'
  const rows = imports.map((one) => [one.id, one.gateway, one.importedAt, one.messages, one.left, one.deadLetters, stateOf(one)])
  const remedies = imports.flatMap(({ remedy }) => (remedy === undefined ? [] : [`  try: ${remedy}`]))
  const letters = imports.some(({ state }) => state === 'dead-letters')
    ? ['Dead letters wait for you: `edgectl imports retry ID` once the cause is mended, or `edgectl imports drop ID`.']
    : []
  return [table(['import', 'of gateway', 'imported', 'messages', 'left', 'dead letters', 'state'], rows), ...remedies, ...letters].join(
    '\n',
  )
}

function stateOf({ state, reason }: ImportFigures): string {
  return reason === undefined ? state : `${state}: ${reason}`
}
