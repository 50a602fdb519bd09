/**
 * The real intake on a clock and an outbox that a test moves.
 */
import { createHash } from 'node:crypto'
import { DeviceIntake } from '../../daemon/ingest/intake.ts'
import type { IntakeParts } from '../../daemon/ingest/intake.ts'
import type { IngestSettings, LimitSettings } from '../../daemon/ingest/settings.ts'
import type { Delivery, Source } from '../../daemon/ports.ts'
import { FakeClock, FakeRandom } from './clock.ts'
import { FakeOutboxWriter } from './outbox.ts'

const UNLIMITED = { messagesPerSecond: Infinity, bytesPerSecond: Infinity, burstMs: 1000 }

export type SettingsChange = Partial<Omit<IngestSettings, 'limits'>> & { readonly limits?: Partial<LimitSettings> }

export function ingestSettings({ limits, ...change }: SettingsChange = {}): IngestSettings {
  return {
    topics: [{ name: 'device-logs', pattern: 'devices/{device}/logs/{stream}' }],
    severity: { from: 'none', urgent: ['error', 'fatal'], reserveShare: 0.2 },
    dedupeFrom: 'none',
    retained: {},
    ...change,
    limits: {
      global: UNLIMITED,
      perDevice: UNLIMITED,
      overrides: [],
      overLimit: 'defer',
      maxMessageBytes: 262_144,
      inFlight: { messages: 1_000_000, bytes: 1 << 30 },
      ...limits,
    },
  }
}

export interface Notice {
  readonly kind: string
  readonly device: string
  readonly text: string
  readonly suppressed: number
}

export interface Bench {
  readonly clock: FakeClock
  readonly outbox: FakeOutboxWriter
  readonly intake: DeviceIntake
  readonly notices: Notice[]
  /** Offers a message; tells how often it has been settled. */
  readonly offer: (device: string, payload?: string, more?: Partial<Delivery>) => { readonly settled: () => number }
}

export async function startIntake(change: SettingsChange = {}, parts: Partial<IntakeParts> = {}): Promise<Bench> {
  const clock = new FakeClock()
  const outbox = new FakeOutboxWriter()
  const notices: Notice[] = []
  const intake = new DeviceIntake(ingestSettings(change), {
    clock,
    random: new FakeRandom(7),
    outbox,
    hash: (text) => createHash('sha256').update(text).digest().subarray(0, 16),
    isKnown: () => true,
    onNotice: (kind, device, text, suppressed) => notices.push({ kind, device, text, suppressed }),
    ...parts,
  })
  await intake.start()
  const offer: Bench['offer'] = (device, payload = 'a line', more = {}) => {
    let count = 0
    intake.offer({
      source: 'lan',
      topic: `devices/${device}/logs/app`,
      payload: Buffer.from(payload),
      qos: 1,
      retained: false,
      settle: () => {
        count++
      },
      ...more,
    })
    return { settled: () => count }
  }
  return { clock, outbox, intake, notices, offer }
}

/** Remembers what it was told. */
export class FakeSource implements Pick<Source, 'hold' | 'release'> {
  readonly told: string[] = []
  #onRelease: () => void

  constructor(onRelease: () => void = () => undefined) {
    this.#onRelease = onRelease
  }

  hold(reason: string): void {
    this.told.push(`hold: ${reason}`)
  }

  release(): void {
    this.told.push('release')
    this.#onRelease()
  }

  get held(): boolean {
    return this.told.at(-1)?.startsWith('hold') ?? false
  }
}
