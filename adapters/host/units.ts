import { execFile } from 'node:child_process'
import { GatewayError } from '../../daemon/errors.ts'
import { asOneself } from './identity.ts'

export interface UnitState {
  /** `loaded`, `not-found`, `masked`… */
  readonly load: string
  readonly active: string
  /** Drawn by systemd at each start of the unit; empty when it never ran. */
  readonly invocation: string
}

/** systemd's units, as far as patches need them. */
export interface Units {
  /** Resolves when it has stopped; one that is not there is stopped. */
  stop(unit: string, signal: AbortSignal): Promise<void>
  /** Resolves when it has started; rejects with `rejected` when it does not come up. */
  start(unit: string, signal: AbortSignal): Promise<void>
  state(unit: string, signal: AbortSignal): Promise<UnitState>
  /** How long a stop or a start may take. */
  readonly limitMs: number
}

/** By its ActiveState (org.freedesktop.systemd1). */
export function isRunning(active: string): boolean {
  return ['active', 'activating', 'reloading'].includes(active)
}

/** By `systemctl`; systemd lets root alone start and stop units, unless a polkit rule says otherwise. */
export class SystemdUnits implements Units {
  readonly limitMs: number
  readonly #systemctl: string

  constructor(options: { readonly systemctl?: string; readonly limitMs?: number } = {}) {
    this.#systemctl = options.systemctl ?? '/usr/bin/systemctl'
    // systemd's own default for a start or a stop is 90 s; it then kills, which takes a moment.
    this.limitMs = options.limitMs ?? 100_000
  }

  async stop(unit: string, signal: AbortSignal): Promise<void> {
    const { code, text } = await this.#call(['stop', '--', unit], signal)
    // 5: not loaded (systemctl(1), LSB).
    if (code !== 0 && code !== 5) throw failed('stop', unit, code, text)
  }

  async start(unit: string, signal: AbortSignal): Promise<void> {
    // After quick failures systemd refuses further starts until its counter is reset.
    await this.#call(['reset-failed', '--', unit], signal)
    const { code, text } = await this.#call(['start', '--', unit], signal)
    if (code !== 0) throw failed('start', unit, code, text)
  }

  async state(unit: string, signal: AbortSignal): Promise<UnitState> {
    const { code, text } = await this.#call(['show', '--property=LoadState,ActiveState,InvocationID', '--', unit], signal)
    if (code !== 0) throw failed('show', unit, code, text)
    const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? ''
    return { load: value('LoadState'), active: value('ActiveState'), invocation: value('InvocationID') }
  }

  #call(words: readonly string[], signal: AbortSignal): Promise<{ code: number | string; text: string }> {
    const options = { timeout: this.limitMs, maxBuffer: 65_536, signal, env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' } }
    const call = (): Promise<{ code: number | string; text: string }> =>
      new Promise((resolve, reject) => {
        execFile(this.#systemctl, ['--no-ask-password', '--no-pager', ...words], options, (error, out, err) => {
          if (signal.aborted) return reject(new GatewayError('transient', `systemctl ${words.join(' ')} was cancelled`))
          if (error?.code === 'ENOENT') return reject(new GatewayError('rejected', `${this.#systemctl} is not there; units need systemd`))
          const code = error === null ? 0 : (error.code ?? 'a signal')
          resolve({ code, text: `${out}${err}` })
        })
      })
    return asOneself(call)
  }
}

function failed(verb: string, unit: string, code: number | string, text: string): GatewayError {
  const why = text.trim().split('\n').slice(-3).join(' ')
  const denied = /access denied|authentication required|not authorized/i.test(text)
  const remedy = denied
    ? `systemd lets only root do that: start edge-gateway-executor.socket, and let the root's folder belong to root or to the user of ${unit}.`
    : `Look at "journalctl -u ${unit}".`
  return new GatewayError('rejected', `systemctl ${verb} ${unit} ended with ${code}${why === '' ? '' : `: ${why}`}`, { remedy })
}
