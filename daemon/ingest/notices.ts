/**
 * Words about single messages that were refused or that something was odd about: sampled, so that a flood of them
 * can't become a flood of log lines. The counts are elsewhere, and whole.
 */
import type { ShedReason } from '../ports.ts'

export type NoticeKind = ShedReason | 'fault' | 'no-message-id'

/** `device` is empty when it isn't known. `suppressed`: notices of this kind left out since the last one. */
export type NoticeSink = (kind: NoticeKind, device: string, text: string, suppressed: number) => void

interface Window {
  sinceMs: number
  told: number
  suppressed: number
}

const WINDOW_MS = 60_000

export class Notices {
  readonly #sink: NoticeSink
  readonly #perMinute: number
  readonly #windows = new Map<NoticeKind, Window>()

  constructor(sink: NoticeSink, perMinute = 5) {
    this.#sink = sink
    this.#perMinute = perMinute
  }

  /** `text` is only written when it will be told. `nowMs` is monotonic. */
  tell(kind: NoticeKind, device: string, text: () => string, nowMs: number): void {
    const window = this.#windowOf(kind, nowMs)
    if (window.told >= this.#perMinute) {
      window.suppressed++
      return
    }
    window.told++
    const suppressed = window.suppressed
    window.suppressed = 0
    this.#sink(kind, device, text(), suppressed)
  }

  #windowOf(kind: NoticeKind, nowMs: number): Window {
    let window = this.#windows.get(kind)
    if (window === undefined) this.#windows.set(kind, (window = { sinceMs: nowMs, told: 0, suppressed: 0 }))
    if (nowMs - window.sinceMs >= WINDOW_MS) {
      window.sinceMs = nowMs
      window.told = 0
    }
    return window
  }
}

/** Something a device wrote, fit for a log line: quoted, control characters escaped, short. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text)
}
