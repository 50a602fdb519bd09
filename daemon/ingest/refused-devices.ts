/**
 * Who was turned away lately, and why: connects that were refused, messages that a device may not send. Bounded, so that
 * a flood of made-up names costs a fixed amount; the kinds do not push each other out.
 */
export type RefusalKind = 'connect' | 'malformed-topic' | 'not-own-topic' | 'unknown-device' | 'retained' | 'oversize'

export interface Refused {
  readonly kind: RefusalKind
  readonly source: string
  /** As the device wrote them: client id, user name, certificate's common name; or device and identity of a message. */
  readonly names: readonly string[]
  /** A connect's reason in words, or the topic. Short. */
  readonly detail: string
  count: number
  /** Monotonic ms. */
  lastMs: number
}

const EACH_MAX = 200
const TEXT_MAX = 256

export class RefusedDevices {
  readonly #byKind = new Map<RefusalKind, Map<string, Refused>>()

  note(kind: RefusalKind, source: string, names: readonly string[], detail: string, nowMs: number): void {
    const kept = names.map(short)
    const text = short(detail)
    const all = this.#byKind.get(kind) ?? new Map<string, Refused>()
    this.#byKind.set(kind, all)
    const key = [source, ...kept, text].join('\n')
    const known = all.get(key)
    if (known !== undefined) {
      known.count++
      known.lastMs = nowMs
      return
    }
    if (all.size >= EACH_MAX) all.delete(oldest(all))
    all.set(key, { kind, source, names: kept.map(flat), detail: flat(text), count: 1, lastMs: nowMs })
  }

  /** Of this id: under any of its names, or with it as a level of the topic. The latest first. */
  about(id: string): readonly Refused[] {
    const wanted = short(id)
    return this.#all().filter(
      ({ names, detail, kind }) => names.includes(wanted) || (kind !== 'connect' && detail.split('/').includes(wanted)),
    )
  }

  /** The latest of all, the latest first. */
  latest(limit: number): readonly Refused[] {
    return this.#all().slice(0, limit)
  }

  #all(): Refused[] {
    return [...this.#byKind.values()].flatMap((all) => [...all.values()]).sort((a, b) => b.lastMs - a.lastMs)
  }
}

function oldest(all: ReadonlyMap<string, Refused>): string {
  let key = ''
  let lastMs = Infinity
  for (const [name, refused] of all) {
    if (refused.lastMs >= lastMs) continue
    key = name
    lastMs = refused.lastMs
  }
  return key
}

function short(text: string): string {
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text
}

/** A part of a longer text keeps all of it alive. */
function flat(text: string): string {
  return Buffer.from(text).toString()
}
