/** What the commands for operators need: straight to etcd, as the `etcd:` section of the configuration says. */
import { randomBytes } from 'node:crypto'
import { hostname, userInfo } from 'node:os'
import type { Command } from 'commander'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { readEnvelope } from '../../adapters/signing/dsse.ts'
import { type Host, deriveGatewayId, thisHost } from '../../config/host.ts'
import { loadConfig } from '../../config/load.ts'
import type { Settings } from '../../config/settings.ts'
import { documents, trustOf } from '../compose/trust.ts'
import { GatewayError } from '../errors.ts'
import { PATCH_KINDS } from '../patch/document.ts'
import { EtcdFailure } from '../patch/ports.ts'
import { keys } from '../patch/records.ts'
import type { Trust } from '../patch/rollout/reader.ts'
import type { Envelopes } from '../patch/signing.ts'
import type { Tools } from '../patch/wait.ts'
import type { GlobalOptions } from './ask.ts'

const CALL_MS = 5_000
/** The name under which signatures stand that nobody verified. */
const UNVERIFIED = 'not verified'

export interface FleetLink extends Tools {
  readonly etcd: EtcdClient
  readonly settings: Settings
  readonly trust: Trust
  /** False: no trusted key is known here, and nothing is verified. */
  readonly verifies: boolean
}

/** Opens the link, and closes it whatever happens. Rejects with an `EtcdFailure` that says what to do. */
export async function withFleet<T>(program: Command, use: (link: FleetLink) => Promise<T>): Promise<T> {
  const { settings } = loadConfig(program.opts<GlobalOptions>().config, [], operatorHost())
  if (settings.etcd === undefined)
    throw new GatewayError('rejected', 'no etcd is named in the configuration', {
      remedy: 'write etcd: { endpoints: ["https://etcd-1:2379"] }, or name a file that has it with --config',
    })
  const clock = new SystemClock()
  const etcd = new EtcdClient({ ...settings.etcd, timeoutMs: CALL_MS }, clock)
  const verifies = Object.keys(settings.patches.trustedKeys).length > 0
  const trust = { ...(verifies ? trustOf(settings) : BLIND), fleet: settings.gateway.fleet, anyFleet: settings.gateway.fleet === undefined }
  // The clock's timers keep no program alive; this command must outlast a wait.
  const awake = setInterval(() => undefined, 60_000)
  try {
    return await use({ etcd, clock, random: systemRandom, settings, trust, verifies })
  } catch (error) {
    throw withRemedy(error, settings)
  } finally {
    clearInterval(awake)
    etcd.close()
  }
}

/** An operator's machine may have no number of its own, and needs none. */
function operatorHost(): Host {
  const host = thisHost()
  if (deriveGatewayId(host) !== undefined) return host
  return { ...host, readText: (path) => (path === '/etc/machine-id' ? '0'.repeat(32) : host.readText(path)) }
}

function withRemedy(error: unknown, { etcd }: Settings): unknown {
  if (!(error instanceof EtcdFailure) || error.remedy !== undefined || error.reason !== 'unavailable') return error
  const endpoints = etcd?.endpoints.map(({ host, port, secure }) => `${secure ? 'https' : 'http'}://${host}:${port}`).join(', ')
  const { kind, message, reason, fate } = error
  return new EtcdFailure(kind, message, { reason, fate, cause: error, remedy: `look whether etcd answers at ${endpoints}` })
}

const unverified: Envelopes = {
  open(bytes, type) {
    const envelope = readEnvelope(bytes)
    if (typeof envelope === 'string') return { refused: envelope }
    return envelope.type === type
      ? { payload: envelope.payload, keys: [UNVERIFIED] }
      : { refused: `it holds ${JSON.stringify(envelope.type)}` }
  },
}

const BLIND: Omit<Trust, 'fleet'> = {
  envelopes: unverified,
  documents,
  scopes: new Map([[UNVERIFIED, { kinds: PATCH_KINDS, sites: 'all' as const }]]),
}

/** What an operator did, beside what it did. Never rewritten. */
export interface Audit {
  readonly schema: 1
  readonly action: string
  readonly patch?: string
  readonly gateway?: string
  readonly by: string
  readonly reason?: string
  readonly at: string
}

export function auditOf(
  action: string,
  about: Pick<Audit, 'patch' | 'gateway' | 'reason'>,
): { readonly key: string; readonly value: Uint8Array } {
  const record: Audit = { schema: 1, action, ...about, by: operator(), at: new Date().toISOString() }
  return { key: keys.audit(randomBytes(12).toString('hex')), value: new TextEncoder().encode(JSON.stringify(record)) }
}

/** Who is at the keyboard, for the record: a statement, not a proof. */
export function operator(): string {
  const { SUDO_USER: sudo } = process.env
  return `${sudo ?? userName()}@${hostname()}`.slice(0, 200)
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}` // a user without an entry in passwd
  }
}
