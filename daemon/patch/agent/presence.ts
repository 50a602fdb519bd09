/**
 * The box in its fleet. First contact binds the id to this box's key and board, create-only; from then on nothing is
 * written to etcd unless that binding still stands.
 *
 * Another key or another board under the same id is a duplicate: a copied card, a second box with the same id, or a
 * board or card that was replaced. They look alike from here, and neither a board's number nor a key that lies on the
 * card proves which one is right. So a person decides: the duplicate sends nothing, buffers, and says so, until
 * `edgectl fleet release <id>` takes the old binding away. A box that lost its data folder has a new key, and is in the
 * same position.
 */
import { Buffer } from 'node:buffer'
import type { Clock } from '../../clock.ts'
import type { Log } from '../../ports.ts'
import type { Memory, MemoryChanges } from '../memory.ts'
import type { Compare, Etcd, KeyValue, Put } from '../ports.ts'
import { keys } from '../records.ts'
import type { Alive, Applied, Identity, Info } from '../records.ts'
import type { BoxKey } from '../signing.ts'
import type { Box, OwnIdentity } from './needs.ts'
import { appliedRecord } from './own.ts'
import type { Own } from './own.ts'

export type Belonging =
  /** etcd has not answered yet, and nothing speaks against this box. */
  { readonly kind: 'unmet' } | { readonly kind: 'ours' } | { readonly kind: 'duplicate'; readonly reason: string; readonly remedy: string }

export interface PresencePorts {
  readonly etcd: Etcd
  readonly memory: Memory
  readonly clock: Clock
  readonly key: BoxKey
  readonly log: Log
  box(): Box
  /** The box's own verdict in one line, for `alive`. */
  verdict(): string
  onChange(belonging: Belonging): void
}

/** What a first contact and each later write rest on. */
interface Standing {
  readonly compare: Compare
  readonly info: string | undefined
  readonly applied: string | undefined
}

export class Presence {
  readonly #ports: PresencePorts
  readonly #own: OwnIdentity
  #belonging: Belonging = { kind: 'unmet' }
  #standing: Standing | undefined
  /** What stands in etcd may be older than what we wrote. */
  #isInDoubt = false

  constructor(ports: PresencePorts, machine: string) {
    this.#ports = ports
    this.#own = { publicKey: ports.key.publicKey, machine }
  }

  get belonging(): Belonging {
    return this.#belonging
  }

  /** From memory alone: a card that was moved to another board is noticed without etcd. */
  async recall(): Promise<void> {
    const seen = (await this.#ports.memory.read('identity')).get('identity')
    const { gateway } = this.#ports.box()
    if (typeof seen !== 'object' || seen === null || !('machine' in seen) || seen['gateway'] !== gateway) return
    const { machine, publicKey, duplicate } = seen
    const differs = difference({ machine: String(machine), publicKey: String(publicKey) }, this.#own)
    if (differs !== undefined || typeof duplicate === 'string') this.#become(duplicateOf(gateway, differs ?? String(duplicate)))
  }

  /**
   * Meets the fleet, or looks whether the binding still stands. Writes what changed of `info` and `applied`, and
   * `alive`. Rejects with an `EtcdFailure`.
   */
  async meet(own: Own): Promise<Belonging> {
    if (this.#standing === undefined || this.#isInDoubt) await this.#bind()
    if (this.#belonging.kind !== 'ours' || this.#standing === undefined) return this.#belonging
    if (!(await this.#write(this.#standing, own))) {
      this.forget()
      await this.#bind()
    }
    return this.#belonging
  }

  /** Belongs into every transaction of this box; undefined while it may not write. */
  get compare(): Compare | undefined {
    return this.#belonging.kind === 'ours' ? this.#standing?.compare : undefined
  }

  /** The link broke: etcd may come back from a backup. The binding holds until the next look, which reads all anew. */
  doubt(): void {
    this.#isInDoubt = true
  }

  /** The binding must be looked at anew before the next write. */
  forget(): void {
    this.#standing = undefined
  }

  async #bind(): Promise<void> {
    const { etcd, memory, clock } = this.#ports
    const { gateway } = this.#ports.box()
    const key = keys.identity(gateway)
    const identity: Identity = { schema: 1, gateway, ...this.#own, at: iso(clock.wallMs()) }
    const reads = [{ get: key }, { get: keys.info(gateway) }, { get: keys.applied(gateway) }, { get: keys.released(gateway) }]
    const { answers } = await etcd.transact({
      compare: [{ key, create: 0 }],
      then: [{ put: key, value: encode(identity) }, ...reads],
      otherwise: [{ get: key }, ...reads],
    })
    const [found, info, applied, released] = answers.slice(1).map(({ entries }) => entries[0])
    const other = found === undefined ? 'its identity in etcd vanished' : otherOf(found, this.#own)
    if (found === undefined || other !== undefined) return this.#refuse(gateway, other ?? 'no identity')
    const floors = await this.#floors(applied, released)
    await memory.write({ identity: { gateway, ...this.#own }, ...floors })
    this.#standing = {
      compare: { key, mod: found.modRevision },
      info: withoutTime(info),
      applied: appliedText(applied, this.#own, this.#ports.key),
    }
    this.#isInDoubt = false
    this.#become({ kind: 'ours' })
  }

  async #refuse(gateway: string, differs: string): Promise<void> {
    await this.#ports.memory.write({ identity: { gateway, ...this.#own, duplicate: differs } })
    this.#become(duplicateOf(gateway, differs))
  }

  /** A box that lost its memory must not be led back to older patches. What nobody signed for is passed over. */
  async #floors(applied: KeyValue | undefined, released: KeyValue | undefined): Promise<MemoryChanges> {
    if (applied === undefined) return {}
    const record = this.#verified(applied, [this.#own.publicKey, ...publicKeyOf(released)])
    if (record === undefined) {
      this.#ports.log.warn({}, 'what etcd says was applied here is not signed by this box or by the one before it; it is passed over')
      return {}
    }
    const mine = await this.#ports.memory.read('floor/')
    const higher = Object.entries(record.channels).filter(([channel, { sequence }]) => {
      const floor = mine.get(`floor/${channel}`)
      return !(typeof floor === 'object' && floor !== null && 'sequence' in floor && Number(floor['sequence']) >= sequence)
    })
    const known = await this.#ports.memory.read('applied/')
    const before = record.inForce.filter(({ patch }) => !known.has(`applied/${patch}`))
    return {
      ...Object.fromEntries(higher.map(([channel, { sequence, patch }]) => [`floor/${channel}`, { sequence, patch }])),
      ...Object.fromEntries(before.map(({ patch, digest }) => [`before/${patch}`, { digest }])),
    }
  }

  #verified(entry: KeyValue, publicKeys: readonly string[]): Applied | undefined {
    for (const publicKey of publicKeys) {
      const verified = this.#ports.key.verifyRecord(entry.value, publicKey)
      if ('record' in verified && isApplied(verified.record, this.#ports.box().gateway)) return verified.record
    }
    return undefined
  }

  /** False when the binding is not the one that we knew. */
  async #write({ compare, ...before }: Standing, own: Own): Promise<boolean> {
    const { etcd, key, clock } = this.#ports
    const { gateway } = this.#ports.box()
    const at = iso(clock.wallMs())
    const alive: Alive = { schema: 1, at, clockTrusted: clock.wallTrusted(), verdict: this.#ports.verdict().slice(0, 200) }
    const info = { schema: 1 as const, ...this.#ports.box(), ...holdOf(own, clock.wallMs()) }
    const applied = { schema: 1, gateway, ...appliedRecord(own) }
    const now = { info: JSON.stringify(info), applied: JSON.stringify(applied) }
    const puts: Put[] = [{ put: keys.alive(gateway), value: encode(alive) }]
    if (now.info !== before.info) puts.push({ put: keys.info(gateway), value: encode({ ...info, at } satisfies Info) })
    if (now.applied !== before.applied) puts.push({ put: keys.applied(gateway), value: key.signRecord({ ...applied, at }) })
    if (!(await etcd.transact({ compare: [compare], then: puts })).succeeded) return false
    this.#standing = { compare, ...now }
    return true
  }

  #become(belonging: Belonging): void {
    const before = this.#belonging
    this.#belonging = belonging
    if (before.kind === belonging.kind) return
    if (belonging.kind === 'duplicate') this.#ports.log.error({ remedy: belonging.remedy }, belonging.reason)
    this.#ports.onChange(belonging)
  }
}

function otherOf(found: KeyValue, own: OwnIdentity): string | undefined {
  const identity = parse(found) as Partial<Identity> | undefined
  if (typeof identity?.publicKey !== 'string' || typeof identity.machine !== 'string') return 'its identity in etcd is unreadable'
  return difference({ publicKey: identity.publicKey, machine: identity.machine }, own)
}

function difference(known: OwnIdentity, own: OwnIdentity): string | undefined {
  if (known.machine !== own.machine && known.publicKey !== own.publicKey) return 'another board with another key'
  if (known.machine !== own.machine) return 'another board (this card was copied, or moved)'
  return known.publicKey === own.publicKey ? undefined : 'this board with another key (its data folder was lost, or copied)'
}

function duplicateOf(gateway: string, differs: string): Belonging {
  return {
    kind: 'duplicate',
    reason: `the id "${gateway}" belongs to another box: ${differs}; this one buffers and sends nothing`,
    remedy: `give this box its own gateway.id; if it replaces the other one, run: edgectl fleet release ${gateway}`,
  }
}

function holdOf({ hold }: Own, nowMs: number): Pick<Info, 'hold'> {
  if (hold === undefined || hold.untilMs <= nowMs) return {}
  const { untilMs, by, reason } = hold
  return { hold: { until: iso(untilMs), by, reason } }
}

function publicKeyOf(entry: KeyValue | undefined): string[] {
  const { publicKey } = (parse(entry) ?? {}) as { publicKey?: unknown }
  return typeof publicKey === 'string' ? [publicKey] : []
}

function isApplied(record: unknown, gateway: string): record is Applied {
  if (typeof record !== 'object' || record === null) return false
  const { channels, gateway: of, inForce } = record as Partial<Applied>
  if (of !== gateway || typeof channels !== 'object' || channels === null || !Array.isArray(inForce)) return false
  return Object.values(channels).every(({ sequence, patch }) => Number.isSafeInteger(sequence) && typeof patch === 'string')
}

function withoutTime(entry: KeyValue | undefined): string | undefined {
  const fields = parse(entry)
  return fields && JSON.stringify({ ...fields, at: undefined })
}

/** One that this key did not sign is written anew. */
function appliedText(entry: KeyValue | undefined, { publicKey }: OwnIdentity, key: BoxKey): string | undefined {
  const verified = entry && key.verifyRecord(entry.value, publicKey)
  return verified && 'record' in verified ? JSON.stringify({ ...(verified.record as object), at: undefined }) : undefined
}

function parse(entry: KeyValue | undefined): object | undefined {
  if (entry === undefined) return undefined
  try {
    const parsed: unknown = JSON.parse(Buffer.from(entry.value).toString('utf8'))
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined
  } catch {
    return undefined // somebody wrote it by hand; the caller says what follows
  }
}

function encode(record: object): Uint8Array {
  return Buffer.from(JSON.stringify(record))
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
