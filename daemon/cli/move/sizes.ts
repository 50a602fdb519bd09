import { parseSize as parse } from '../../../config/units.ts'
import { GatewayError } from '../../errors.ts'

/** Bytes of an option such as `3900MiB`. Throws `rejected` that says what to write. */
export function parseSize(option: string, text: string): number {
  const bytes = parse(text, { min: 64 * 1024, max: 2 ** 50 })
  if (typeof bytes === 'number') return bytes
  throw new GatewayError('rejected', `${option} takes a size of at least 64KiB, for example 3900MiB`)
}
