import { Cron } from 'croner'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Windows } from '../../daemon/patch/kinds.ts'

type Window = Parameters<Windows['remainingMs']>[0]

const KEPT_MAX = 64

/**
 * Maintenance windows by croner, in the zone of the site or of the patch. Where the clock is put forward, a window
 * that would open in the hour that is left out opens when the hour is over; where it is put back, it opens at the first
 * of the two. Its length is real time. Both throw a `rejected` error for a zone that this box does not know.
 */
export class CronWindows implements Windows {
  readonly #siteZone: () => string
  readonly #crons = new Map<string, Cron>()

  /** `siteZone`: `gateway.timezone`, as it is now. */
  constructor(siteZone: () => string) {
    this.#siteZone = siteZone
  }

  remainingMs(window: Window, atMs: number): number {
    // croner's times are whole seconds, and "before" excludes the instant itself.
    const [opened] = this.#cron(window).previousRuns(1, new Date(Math.floor(atMs / 1_000) * 1_000 + 1_000))
    return opened === undefined ? 0 : Math.max(0, opened.getTime() + window.durationMs - atMs)
  }

  opensMs(window: Window, atMs: number): number | undefined {
    return this.#cron(window).nextRun(new Date(atMs))?.getTime()
  }

  #cron({ timezone, cron }: Window): Cron {
    const zone = timezone === 'site' ? this.#siteZone() : timezone
    const key = `${zone} ${cron}`
    const made = this.#crons.get(key) ?? parsed(cron, zone)
    this.#crons.set(key, made)
    if (this.#crons.size > KEPT_MAX) this.#crons.delete(this.#crons.keys().next().value ?? '')
    return made
  }
}

function parsed(cron: string, zone: string): Cron {
  try {
    const made = new Cron(cron, { timezone: zone, mode: '5-part', paused: true, fixedTimeRule: 'no-wildcard' })
    // The zone is looked up only when it is used.
    made.nextRun()
    return made
  } catch (error) {
    throw new GatewayError('rejected', `the window ${JSON.stringify(cron)} in ${zone} can't be read here: ${messageOf(error)}`, {
      remedy: 'write another time zone, or update the time zones of this box (tzdata)',
      cause: error,
    })
  }
}
