import { parseArgs } from 'node:util'

/** The daemon gives no more lines of its ledger. */
export const LEDGER_LINES_MAX = 1_000

export interface DemoOptions {
  readonly json: boolean
  readonly patch: boolean
  readonly seconds: number
  readonly devices: number
  readonly from: string | undefined
}

export function readOptions(): DemoOptions {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      patch: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '40' },
      devices: { type: 'string' },
      from: { type: 'string' },
    },
  })
  const seconds = Number(values.seconds)
  // With patches: of each gateway.
  const devices = Number(values.devices ?? (values.patch ? 20 : 200))
  if (!(seconds >= 10) || !(devices >= 2 && devices <= LEDGER_LINES_MAX))
    throw new Error('--seconds must be at least 10, and --devices from 2 to 1000')
  return { json: values.json, patch: values.patch, seconds, devices, from: values.from }
}
