import { createReadStream } from 'node:fs'
import { mkdir, rm, statfs } from 'node:fs/promises'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { sleep, type Clock } from '../../daemon/clock.ts'
import { GatewayError, kindOf, messageOf } from '../../daemon/errors.ts'
import type { FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Downloads, Kind } from '../../daemon/patch/kinds.ts'
import type { JsonObject } from '../../daemon/patch/memory.ts'
import { ANSWER_BYTES_MAX, resultOf, SILENCE_MS } from './wire.ts'

const { request: httpRequest } = process.getBuiltinModule('node:http')

/** The executor's plan; what of it the daemon needs is read from `files`, and nothing of it is believed there. */
export type RemotePlan = { readonly executor: true; readonly digest: string; readonly files: JsonObject }

const COMMIT_TRIES_MAX = 4
const COMMIT_PAUSE_MS = 1_000

type Limited = 'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate'

export interface RemoteFilesOptions {
  readonly socketPath: string
  readonly downloads: Downloads
  /** Where artifacts lie until the executor has them. */
  readonly folder: string
  readonly reserveBytes: number
  readonly clock: Clock
  readonly limitMs: (step: Limited, files: JsonObject) => number
}

/** Patches of kind files by way of the executor: the daemon fetches, the executor verifies and carries out. */
export class RemoteFiles implements Kind<FilesPatch, RemotePlan> {
  readonly #options: RemoteFilesOptions

  constructor(options: RemoteFilesOptions) {
    this.#options = options
  }

  async prepare({ envelope, digest }: Accepted<FilesPatch>, signal: AbortSignal): Promise<RemotePlan> {
    const { plan } = await this.#ask('/prepare', signal, (request) => void request.end(envelope))
    return { executor: true, digest, files: plan as JsonObject }
  }

  async fetch({ digest, files }: RemotePlan, signal: AbortSignal): Promise<void> {
    const { missing } = await this.#ask(`/${digest}/missing`, signal)
    for (const artifact of artifactsOf(files)) {
      if (Array.isArray(missing) && missing.includes(artifact.sha256)) await this.#bring(digest, artifact, signal)
    }
  }

  /** Brings again what a failing disk lost since. */
  async build(plan: RemotePlan, signal: AbortSignal): Promise<void> {
    await this.fetch(plan, signal)
    await this.#step(plan, 'build', signal)
  }

  pre = (plan: RemotePlan, signal: AbortSignal): Promise<void> => this.#limited(plan, 'pre', signal)
  flip = (plan: RemotePlan): Promise<void> => this.#limited(plan, 'flip')
  activate = (plan: RemotePlan, signal: AbortSignal): Promise<void> => this.#limited(plan, 'activate', signal)
  verify = (plan: RemotePlan, signal: AbortSignal): Promise<void> => this.#step(plan, 'verify', signal).then(() => undefined)
  unflip = (plan: RemotePlan): Promise<void> => this.#limited(plan, 'unflip')
  reactivate = (plan: RemotePlan, signal: AbortSignal): Promise<void> => this.#limited(plan, 'reactivate', signal)

  async isFlipped(plan: RemotePlan): Promise<boolean> {
    return (await this.#step(plan, 'isFlipped')) === true
  }

  /** Nobody asks again: an executor that is just starting anew is waited for. */
  async commit(plan: RemotePlan): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return void (await this.#step(plan, 'commit'))
      } catch (error) {
        if (kindOf(error) !== 'transient' || tries >= COMMIT_TRIES_MAX) throw error
        await sleep(this.#options.clock, COMMIT_PAUSE_MS, new AbortController().signal)
      }
    }
  }

  async discard(plan: RemotePlan): Promise<void> {
    for (const { sha256 } of artifactsOf(plan.files)) await this.#forget(sha256)
    await this.#step(plan, 'discard')
  }

  limitMs(step: Limited, { files }: RemotePlan): number {
    return this.#options.limitMs(step, files)
  }

  async #bring(digest: string, artifact: { url: string; sha256: string; bytes: number }, signal: AbortSignal): Promise<void> {
    const { folder, downloads, reserveBytes } = this.#options
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const { bavail, bsize } = await statfs(folder)
    if (bavail * bsize - artifact.bytes < reserveBytes)
      throw new GatewayError('saturated', `there is no room in ${folder} for ${artifact.bytes} bytes`, {
        remedy: 'Free some room; the patch then goes on by itself.',
      })
    const path = join(folder, artifact.sha256)
    await downloads.fetch(artifact, path, signal)
    await this.#ask(`/${digest}/artifacts/${artifact.sha256}`, signal, (request) => pipeline(createReadStream(path), request))
    await this.#forget(artifact.sha256)
  }

  async #forget(sha256: string): Promise<void> {
    const path = join(this.#options.folder, sha256)
    for (const name of [path, `${path}.json`, `${path}.json.new`]) await rm(name, { force: true })
  }

  /** The permit was asked a moment ago: until then the effect fits before the lock's deadline, wherever it is held up. */
  async #limited(plan: RemotePlan, step: Limited, signal?: AbortSignal): Promise<void> {
    const end = this.#options.clock.bootMs() + this.limitMs(step, plan)
    await this.#step(plan, step, signal, `?end=${Math.round(end)}`)
  }

  async #step({ digest }: RemotePlan, step: string, signal = new AbortController().signal, query = ''): Promise<unknown> {
    return (await this.#ask(`/${digest}/steps/${step}${query}`, signal)).is
  }

  async #ask(
    path: string,
    signal: AbortSignal,
    send: (request: ClientRequest) => unknown = (request) => request.end(),
  ): Promise<{ readonly [name: string]: unknown; readonly plan?: unknown; readonly missing?: unknown; readonly is?: unknown }> {
    const { socketPath } = this.#options
    try {
      const request = httpRequest({ socketPath, path, method: 'POST', agent: false, signal })
      request.setTimeout(SILENCE_MS, () => request.destroy(new Error(`nothing was heard of it for ${SILENCE_MS} ms`)))
      const answer = responseOf(request)
      // What cuts the body off is told by the answer, or is the same as what ends that.
      void Promise.resolve(send(request)).catch(() => undefined)
      return resultOf(await jsonOf(await answer))
    } catch (error) {
      if (error instanceof GatewayError) throw error
      if (signal.aborted) throw new GatewayError('transient', 'the step was cancelled', { cause: error })
      throw unreachable(socketPath, error as NodeJS.ErrnoException)
    }
  }
}

function responseOf(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve)
    request.on('error', reject)
  })
}

async function jsonOf(answer: IncomingMessage): Promise<unknown> {
  let text = ''
  answer.setEncoding('utf8')
  for await (const chunk of answer as AsyncIterable<string>) {
    text += chunk.trimStart()
    if (text.length > ANSWER_BYTES_MAX) throw new GatewayError('transient', 'the executor says too much')
  }
  return JSON.parse(text) as unknown
}

function artifactsOf(files: JsonObject): readonly { readonly url: string; readonly sha256: string; readonly bytes: number }[] {
  const { artifacts } = files
  return Array.isArray(artifacts) ? (artifacts as { url: string; sha256: string; bytes: number }[]) : []
}

function unreachable(path: string, cause: NodeJS.ErrnoException): GatewayError {
  const remedy = 'systemctl status edge-gateway-executor.socket edge-gateway-executor.service'
  if (cause.code === 'EACCES')
    return new GatewayError('transient', `the gateway's user may not speak to the executor at ${path}`, {
      cause,
      remedy: 'systemctl restart edge-gateway-executor.socket, which gives the socket to edge-gateway again',
    })
  const isMissing = cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED'
  const message = isMissing ? `no executor answers at ${path}` : `the executor did not answer to the end: ${messageOf(cause)}`
  return new GatewayError('transient', message, { cause, remedy })
}
