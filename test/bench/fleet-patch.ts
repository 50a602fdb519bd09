/** The signed document that goes through the simulated fleet, and whom its boxes believe. */
import type { KeyObject } from 'node:crypto'
import { envelopeText, seal, TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { documents } from '../../daemon/compose/trust.ts'
import { PATCH_TYPE } from '../../daemon/patch/records.ts'
import type { Trust } from '../../daemon/patch/rollout/reader.ts'

export const FLEET_NAME = 'acme'

export function trustIn(publicKey: string): Trust {
  const scopes = new Map([['ops', { kinds: ['config'] as const, sites: 'all' as const }]])
  return { envelopes: new TrustedEnvelopes({ ops: publicKey }), documents, scopes, fleet: FLEET_NAME }
}

/** In three stages: one box, a quarter, all. */
export function signedPatch(id: string, sequence: number, slots: number, privateKey: KeyObject): Uint8Array {
  const document = {
    ...{ apiVersion: 'edge/v1', kind: 'config', id, fleet: FLEET_NAME, channel: 'limits', sequence },
    expires: new Date(Date.now() + 86_400_000).toISOString(),
    target: { all: true },
    spec: { limits: { perDevice: { messagesPerSecond: 50 } } },
    health: { checks: ['pipeline-moving'], consecutive: 1, deadline: '10s', bake: '0s' },
    rollout: {
      stages: [{ count: 1, bake: '1s' }, { percent: 25, bake: '1s' }, { percent: 100 }],
      concurrency: { scope: 'bench', slots },
      maxFailures: { count: 3 },
    },
  }
  return Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(document)), privateKey)))
}
