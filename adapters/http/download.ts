import { request, type Dispatcher } from 'undici'
import { sleep, type Clock, type Random } from '../../daemon/clock.ts'
import { GatewayError, kindOf, messageOf } from '../../daemon/errors.ts'
import type { Downloads } from '../../daemon/patch/kinds.ts'
import { judge, retryAfterMs, type Verdict } from './answer.ts'
import { dispatcherOf, type HttpOptions } from './dispatcher.ts'
import { PartialFile } from './partial-file.ts'

export interface DownloadOptions extends HttpOptions {
  readonly clock: Clock
  readonly random: Random
  /** Without a byte: for the answer's head, and between two pieces of its body. */
  readonly headersTimeoutMs?: number
  readonly idleTimeoutMs?: number
  /** Fewer than `bytes` in `perMs`: the attempt ends, so that a trickle can't hold the lock for days. */
  readonly slow?: { readonly bytes: number; readonly perMs: number }
  /** In a row without progress. */
  readonly attempts?: number
  /** The wait after the first bad attempt; doubled up to a minute. */
  readonly backoffMs?: number
}

interface Artifact {
  readonly url: string
  readonly sha256: string
  readonly bytes: number
}

const REDIRECTS_MAX = 5
/** An attempt that brought at least this, or the rest, was none in vain. */
const PROGRESS_BYTES = 64 * 1_024
/** After so many bytes or ms the partial file is made durable. */
const KEEP_BYTES = 4 * 1_024 * 1_024
const KEEP_MS = 15_000
const BACKOFF_MAX_MS = 60_000
const RETRY_AFTER_MAX_MS = 10 * 60_000
/** The second time that the bytes are wrong, they will be so again. */
const MISMATCHES_MAX = 2

/** Downloads with resume over restarts: see `Downloads`. 401, 403, 404 and 410 end it at once; 408, 425, 429 and 5xx don't. */
export class HttpDownloads implements Downloads {
  readonly #options: DownloadOptions
  #dispatcher: Dispatcher | undefined

  constructor(options: DownloadOptions) {
    this.#options = options
  }

  async fetch(artifact: Artifact, path: string, signal: AbortSignal): Promise<void> {
    this.#dispatcher ??= dispatcherOf(this.#options)
    webUrl(artifact.url)
    let file: PartialFile | undefined
    try {
      file = await PartialFile.open(path, artifact.url)
      await this.#complete(artifact, file, signal)
      await file.close()
    } catch (error) {
      const told = asTold(error, artifact)
      // What can't be used, or fills the disk, is not left behind.
      if (kindOf(told) === 'rejected' || kindOf(told) === 'saturated') await file?.remove()
      else await file?.close()
      throw told
    }
  }

  /** Idempotent; ends what is under way. */
  async stop(): Promise<void> {
    await this.#dispatcher?.destroy()
    this.#dispatcher = undefined
  }

  async #complete(artifact: Artifact, file: PartialFile, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted()
      if (file.sidecar.length === artifact.bytes) {
        const found = await file.sha256(signal)
        if (found === artifact.sha256) return
        await mismatch(file, `the bytes have the sha256 ${found}, the patch says ${artifact.sha256}`)
      }
      await this.#attempt(artifact, file, signal)
    }
  }

  async #attempt(artifact: Artifact, file: PartialFile, signal: AbortSignal): Promise<void> {
    const before = file.sidecar.length
    const failure = await this.#once(artifact, file, signal)
    signal.throwIfAborted()
    const gained = file.sidecar.length - before
    if (file.sidecar.length === artifact.bytes || gained >= PROGRESS_BYTES) return file.keep({ attempts: 0 })
    const attempts = file.sidecar.attempts + 1
    if (attempts >= (this.#options.attempts ?? 8)) {
      await file.keep({ attempts: 0 })
      throw new GatewayError('transient', `${artifact.url} could not be fetched in ${attempts} attempts: ${failure.reason}`)
    }
    await file.keep({ attempts })
    await sleep(this.#options.clock, Math.max(this.#backoffMs(attempts), failure.waitMs), signal)
  }

  #backoffMs(attempts: number): number {
    const full = Math.min((this.#options.backoffMs ?? 1_000) * 2 ** (attempts - 1), BACKOFF_MAX_MS)
    return full * (0.5 + this.#options.random.unit() / 2)
  }

  /** One request and its body. Resolves with why it ended early; a mismatch or a refusal rejects. */
  async #once(artifact: Artifact, file: PartialFile, signal: AbortSignal): Promise<{ reason: string; waitMs: number }> {
    const attempt = new AbortController()
    const limit = AbortSignal.any([signal, attempt.signal])
    try {
      const { verdict, body } = await this.#ask(artifact, file, limit)
      try {
        if (verdict.kind === 'body') await this.#receive(verdict, body, artifact, file)
        else return await this.#other(verdict, file)
      } finally {
        attempt.abort()
      }
      return { reason: 'the connection ended before the end of the file', waitMs: 0 }
    } catch (error) {
      if (error instanceof GatewayError && error.kind !== 'transient') throw error
      if (isNoRoom(error) || isOurs(error)) throw error
      return { reason: messageOf(error), waitMs: 0 }
    }
  }

  async #other(verdict: Exclude<Verdict, { kind: 'body' }>, file: PartialFile): Promise<{ reason: string; waitMs: number }> {
    switch (verdict.kind) {
      case 'restart':
        await file.restart()
        return { reason: verdict.reason, waitMs: 0 }
      case 'mismatch':
        await mismatch(file, verdict.reason)
        return { reason: verdict.reason, waitMs: 0 }
      case 'later':
        return { reason: verdict.reason, waitMs: retryAfterMs(verdict.retryAfter, this.#options.clock.wallMs(), RETRY_AFTER_MAX_MS) }
      case 'refused':
      case 'redirect':
        throw new GatewayError('rejected', verdict.kind === 'refused' ? verdict.reason : `more than ${REDIRECTS_MAX} redirects`)
    }
  }

  async #ask(artifact: Artifact, file: PartialFile, signal: AbortSignal): Promise<{ verdict: Verdict; body: Body }> {
    const { length: have, validator } = file.sidecar
    const headers: Record<string, string> = { 'accept-encoding': 'identity' }
    if (have > 0) headers['range'] = `bytes=${have}-`
    if (have > 0 && validator !== undefined) headers['if-range'] = validator
    let url = webUrl(artifact.url)
    for (let hops = 0; ; hops += 1) {
      const { statusCode, headers: found, body } = await this.#request(url, headers, signal)
      const verdict = judge({ status: statusCode, headers: found }, { have, bytes: artifact.bytes, validator })
      if (verdict.kind !== 'redirect' || hops === REDIRECTS_MAX) return { verdict, body }
      body.on('error', () => undefined).destroy()
      url = redirected(url, verdict.location)
    }
  }

  #request(url: URL, headers: Record<string, string>, signal: AbortSignal): ReturnType<typeof request> {
    const { headersTimeoutMs: headersTimeout = 30_000, idleTimeoutMs: bodyTimeout = 30_000 } = this.#options
    if (this.#dispatcher === undefined) throw new GatewayError('transient', 'downloads were stopped')
    return request(url, { dispatcher: this.#dispatcher, headers, signal, headersTimeout, bodyTimeout })
  }

  /** Writes from `from` on, until the end, the first byte too many, or the pace is too slow. */
  async #receive(verdict: Verdict & { kind: 'body' }, body: Body, artifact: Artifact, file: PartialFile): Promise<void> {
    if (verdict.from === 0) await file.restart()
    await file.keep(verdict.validator === undefined ? {} : { validator: verdict.validator })
    let at = verdict.from
    const pace = new Pace(this.#options, at)
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        if (at + chunk.length > artifact.bytes) {
          at = 0
          return await mismatch(file, `the server sends more than the ${artifact.bytes} bytes that the patch says`)
        }
        await file.write(chunk, at)
        at += chunk.length
        if (pace.isDue(at)) await file.keep({ length: at })
      }
    } finally {
      if (at > file.sidecar.length) await file.keep({ length: at })
    }
  }
}

type Body = Awaited<ReturnType<typeof request>>['body']

/** When to make durable, and when the server is too slow to wait for. */
class Pace {
  readonly #options: DownloadOptions
  #kept: { readonly at: number; readonly ms: number }
  #seen: { readonly at: number; readonly ms: number }

  constructor(options: DownloadOptions, at: number) {
    this.#options = options
    this.#kept = this.#seen = { at, ms: options.clock.monotonicMs() }
  }

  isDue(at: number): boolean {
    const ms = this.#options.clock.monotonicMs()
    const { bytes, perMs } = this.#options.slow ?? { bytes: 4_096, perMs: 60_000 }
    if (ms - this.#seen.ms >= perMs) {
      if (at - this.#seen.at < bytes) throw new GatewayError('transient', `the server sends less than ${bytes} bytes in ${perMs} ms`)
      this.#seen = { at, ms }
    }
    if (at - this.#kept.at < KEEP_BYTES && ms - this.#kept.ms < KEEP_MS) return false
    this.#kept = { at, ms }
    return true
  }
}

async function mismatch(file: PartialFile, reason: string): Promise<void> {
  const mismatches = file.sidecar.mismatches + 1
  if (mismatches >= MISMATCHES_MAX) throw new GatewayError('rejected', `${reason}; fetched anew it was the same`)
  await file.restart({ mismatches })
}

function webUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new GatewayError('rejected', `${text} is no http:// or https:// URL`)
  }
  if (url.username !== '' || url.password !== '') throw new GatewayError('rejected', `the URL of ${url.host} holds a password; use mTLS`)
  return url
}

function redirected(from: URL, location: string): URL {
  if (!URL.canParse(location, from.href)) throw new GatewayError('rejected', `${from.href} redirects to "${location}"`)
  const to = webUrl(new URL(location, from).href)
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    throw new GatewayError('rejected', `${from.href} redirects to ${to.href}, from https to http`)
  }
  return to
}

function isNoRoom(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(String((error as NodeJS.ErrnoException).code))
}

/** An error of the box's own disk: another attempt at the network would not mend it. */
function isOurs(error: unknown): boolean {
  return ['EIO', 'EROFS', 'ENOENT', 'EACCES', 'EPERM', 'EBADF'].includes(String((error as NodeJS.ErrnoException).code))
}

function asTold(error: unknown, artifact: Artifact): unknown {
  if (error instanceof GatewayError) {
    return new GatewayError(error.kind, `artifact ${artifact.url}: ${error.message}`, { cause: error })
  }
  if (isNoRoom(error)) {
    const remedy = `Free at least ${artifact.bytes} bytes; the patch then goes on by itself.`
    return new GatewayError('saturated', `there is no room for the artifact ${artifact.url}`, { cause: error, remedy })
  }
  return new GatewayError('transient', `artifact ${artifact.url}: ${messageOf(error)}`, { cause: error })
}
