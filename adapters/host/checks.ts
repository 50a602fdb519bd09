import { messageOf } from '../../daemon/errors.ts'
import type { CheckResult, Checks, Probe } from '../../daemon/patch/kinds.ts'
import type { Units } from './units.ts'

const HTTP_TIMEOUT_MS = 5_000

export interface CheckSources {
  readonly units: Units
  readonly probe: Probe
  /** The gateway's own verdict on its log path. */
  readonly pipeline: () => { readonly ok: boolean; readonly reason?: string }
}

/** `pipeline-moving`; `unit:<name>`: systemd says active; `http:<url>`: 2xx within 5 s, any host, no redirect. */
export class HostChecks implements Checks {
  readonly #sources: CheckSources

  constructor(sources: CheckSources) {
    this.#sources = sources
  }

  run(names: readonly string[], signal: AbortSignal): Promise<readonly CheckResult[]> {
    return Promise.all(
      names.map(async (name): Promise<CheckResult> => {
        try {
          const reason = await this.#fault(name, signal)
          return reason === undefined ? { name, ok: true } : { name, ok: false, reason }
        } catch (error) {
          return { name, ok: false, reason: messageOf(error) }
        }
      }),
    )
  }

  async #fault(name: string, signal: AbortSignal): Promise<string | undefined> {
    const [kind, rest] = [name.slice(0, name.indexOf(':')), name.slice(name.indexOf(':') + 1)]
    if (name === 'pipeline-moving') {
      const { ok, reason } = this.#sources.pipeline()
      return ok ? undefined : (reason ?? 'the pipeline does not move')
    }
    if (kind === 'unit') {
      const { active } = await this.#sources.units.state(rest, signal)
      return active === 'active' ? undefined : `${rest} is ${active === '' ? 'unknown to systemd' : active}`
    }
    if (kind === 'http' || kind === 'https') {
      const url = rest.startsWith('//') ? name : rest
      const status = await this.#sources.probe.status(url, HTTP_TIMEOUT_MS, signal)
      return status >= 200 && status < 300 ? undefined : `${url} answered ${status}`
    }
    return `there is no check "${name}"; write pipeline-moving, unit:<name> or http:<url>`
  }
}
