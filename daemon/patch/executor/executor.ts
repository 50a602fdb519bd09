/**
 * The root half of patches of kind files: carries out single steps of patches that it has verified itself. The daemon
 * keeps the journal and decides; it names a patch by its digest and a step, and nothing else of what it says is used.
 * Each step may be called again after a crash of either side. One at a time: the caller sees to that.
 */
import type { Clock } from '../../clock.ts'
import { GatewayError, kindOf } from '../../errors.ts'
import type { Log } from '../../ports.ts'
import type { FilesPatch } from '../document.ts'
import type { Accepted } from '../kinds.ts'
import type { Json } from '../memory.ts'
import type { Entry, Ledger } from './ledger.ts'
import type { Executed, Installation } from './ports.ts'
import { trustedFiles, type Believed } from './trusted.ts'

export interface ExecutorParts {
  readonly installation: Installation
  readonly believed: Believed
  readonly ledger: Ledger
  readonly clock: Clock
  readonly log: Log
}

/** A step that can't be cut off must have at least so much left. */
const LEAST_MS = 500

export class Executor {
  readonly #parts: ExecutorParts

  constructor(parts: ExecutorParts) {
    this.#parts = parts
  }

  /** Looks, and remembers the plan: what is begun later is this one. */
  async prepare(envelope: Uint8Array, signal: AbortSignal): Promise<{ readonly digest: string; readonly plan: Json }> {
    const { believed, installation, ledger } = this.#parts
    const accepted = trustedFiles(envelope, believed)
    await this.#assertNew(accepted.patch)
    const plan = await installation.prepare(accepted, signal)
    await ledger.prepare(accepted, plan)
    return { digest: accepted.digest, plan }
  }

  /** Begins the patch, or goes on with it: sha256 of the artifacts that must be brought. */
  async missing(digest: string): Promise<readonly string[]> {
    const { ledger, installation } = this.#parts
    const known = await ledger.find(digest)
    if (known?.phase === 'prepared') await this.#settle(digest)
    const entry = await ledger.begin(digest)
    if (entry === undefined) throw unknown(digest)
    await this.#assertForward(entry)
    return installation.missing(entry.plan)
  }

  async receive(digest: string, sha256: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const entry = await this.#find(digest)
    await this.#assertForward(entry)
    await this.#parts.installation.receive(entry.plan, sha256, bytes, signal)
  }

  /** `endBootMs`: the lock's deadline for this effect, on the clock of this boot. Only `isFlipped` has an answer. */
  async step(digest: string, step: Executed, endBootMs: number | undefined, signal: AbortSignal): Promise<boolean | undefined> {
    const entry = await this.#find(digest)
    const { clock, log } = this.#parts
    const leftMs = endBootMs === undefined ? undefined : endBootMs - clock.bootMs()
    if (leftMs !== undefined && leftMs < LEAST_MS)
      throw new GatewayError('transient', `${step} came ${Math.round(-leftMs)} ms after the end of its time, and was not begun`)
    const late = new AbortController()
    const cancel = leftMs === undefined ? undefined : clock.after(leftMs, () => late.abort(new Error('its time was over')))
    if (step !== 'isFlipped' && step !== 'verify') log.info({ patch: entry.patch, step }, `patch ${entry.patch}: ${step}`)
    try {
      return await this.#carryOut(entry, step, AbortSignal.any([signal, late.signal]))
    } finally {
      cancel?.()
    }
  }

  async #carryOut(entry: Entry, step: Executed, signal: AbortSignal): Promise<boolean | undefined> {
    const { installation, ledger } = this.#parts
    const { plan } = entry
    switch (step) {
      case 'isFlipped':
        return installation.isFlipped(plan)
      case 'build':
        await this.#assertForward(entry)
        await installation.build(plan, signal)
        await ledger.note(entry, { isBuilt: true })
        return undefined
      case 'pre':
        await this.#assertForward(entry)
        assertAfter(entry.isBuilt, step, 'build')
        await installation.pre(plan, signal)
        await ledger.note(entry, { isReady: true })
        return undefined
      case 'flip':
        await this.#assertForward(entry)
        assertAfter(entry.isReady, step, 'pre')
        await installation.flip(plan)
        return undefined
      case 'activate':
        await this.#assertForward(entry)
        assertAfter(await installation.isFlipped(plan), step, 'flip')
        await installation.activate(plan, signal)
        return undefined
      case 'verify':
        await installation.verify(plan, signal)
        return undefined
      case 'commit':
        assertAfter(entry.phase !== 'discarded' && (await installation.isFlipped(plan)), step, 'flip')
        await ledger.commit(entry)
        await installation.commit(plan)
        return undefined
      case 'unflip':
        await installation.unflip(plan)
        return undefined
      case 'reactivate':
        await installation.reactivate(plan, signal)
        return undefined
      case 'discard':
        await installation.discard(plan)
        if (entry.phase !== 'prepared') await this.#noteDiscarded(entry)
        return undefined
    }
  }

  /** A full disk must not hold up the way back; what is still noted as begun can be begun anew. */
  async #noteDiscarded(entry: Entry): Promise<void> {
    const { ledger, log } = this.#parts
    try {
      await ledger.note(entry, { phase: 'discarded', isBuilt: false, isReady: false })
    } catch (error) {
      if (kindOf(error) !== 'saturated') throw error
      log.warn({ patch: entry.patch, err: error }, 'that a patch was taken back could not be noted')
    }
  }

  /** Trust may have ended since it was prepared. The way back needs none: it leads to what was in force. */
  async #assertForward(entry: Entry): Promise<void> {
    const { believed, installation } = this.#parts
    const accepted: Accepted<FilesPatch> = trustedFiles(Buffer.from(entry.envelope, 'base64'), believed)
    await this.#assertNew(accepted.patch)
    if (entry.phase !== 'begun') throw new GatewayError('rejected', `${entry.patch} is ${entry.phase}; it must be prepared anew`)
    const forbidden = installation.forbids(entry.plan)
    if (forbidden !== undefined) throw new GatewayError('rejected', forbidden, { remedy: 'Write it there again, or cancel the patch.' })
  }

  /** As the daemon judges, but by a memory that a daemon that was taken over can't change. */
  async #assertNew({ id, channel, sequence, notBefore }: FilesPatch): Promise<void> {
    const { ledger, clock } = this.#parts
    const floor = await ledger.floor(channel)
    if (floor !== undefined && sequence <= floor.sequence && id !== floor.patch) {
      const reason = `the executor goes to no older patch: its sequence ${sequence} is not above ${floor.sequence} (${floor.patch}) of the channel ${channel}`
      const remedy = 'Push it with a higher sequence. On a box that begins anew, remove /var/lib/edge-gateway-executor.'
      throw new GatewayError('saturated', reason, { remedy })
    }
    if (notBefore !== undefined && clock.wallTrusted() && clock.wallMs() < notBefore)
      throw new GatewayError('saturated', `it begins on ${new Date(notBefore).toISOString()}`)
  }

  /** Another one begins: what is in force by then has succeeded, also when its end could not be told. */
  async #settle(digest: string): Promise<void> {
    const { ledger, installation } = this.#parts
    for (const entry of await ledger.all()) {
      if (entry.phase !== 'begun' || entry.digest === digest) continue
      const isInForce = await installation.isFlipped(entry.plan).catch(() => false) // its root may be gone
      if (isInForce) await ledger.commit(entry)
    }
  }

  async #find(digest: string): Promise<Entry> {
    const entry = await this.#parts.ledger.find(digest)
    if (entry === undefined) throw unknown(digest)
    return entry
  }
}

function assertAfter(isDone: boolean, step: Executed, before: Executed): void {
  if (!isDone) throw new GatewayError('rejected', `${step} comes after ${before}, which is not done`)
}

function unknown(digest: string): GatewayError {
  return new GatewayError(
    'rejected',
    `the executor does not know the patch with the digest ${digest}: it was never prepared here, or its memory was removed`,
    {
      remedy: 'Look whether /var/lib/edge-gateway-executor is the one from before.',
    },
  )
}
