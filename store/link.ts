/** The main thread's end of the worker: questions and answers, and the one way in which it can fail. */
import { Worker } from 'node:worker_threads'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import type { Answers, Notice, Question, Report, Request, WireError, WorkerStart, WorkerState } from './protocol.ts'

/** The worker's objects die young; Node's default lets 48 MiB of them pile up before it looks. */
const YOUNG_MIB = 8

type Ready = Extract<Report, { kind: 'ready' }>

export interface LinkEvents {
  state(state: WorkerState): void
  committed(stored: readonly number[]): void
  stored(stored: readonly number[]): void
  /** Buffers of commits that are not needed any more. */
  spent(buffers: readonly ArrayBuffer[]): void
  notice(notice: Notice): void
  /** A round of upkeep is over. */
  ticked(): void
  /** Once: the worker is dead or can't go on. */
  failed(error: GatewayError): void
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: GatewayError) => void
}

export class Link {
  readonly #events: LinkEvents
  readonly #waiting = new Map<number, Waiting>()
  readonly #worker: Worker
  #next = 0
  #failure: GatewayError | undefined
  #stopping = false
  readonly ready: Promise<Ready>
  readonly exited: Promise<void>

  constructor(start: WorkerStart, events: LinkEvents) {
    this.#events = events
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: start,
      name: 'outbox',
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
    })
    this.ready = new Promise((resolve, reject) => {
      this.#waiting.set(-1, { resolve: (value) => resolve(value as Ready), reject })
    })
    this.exited = new Promise((resolve) => {
      this.#worker.once('exit', () => resolve())
    })
    this.#worker.on('message', (report: Report) => this.#receive(report))
    this.#worker.on('error', (error: unknown) => this.#fail(fatal(`the outbox thread failed: ${messageOf(error)}`, error)))
    this.#worker.on('exit', (code) => {
      if (!this.#stopping) this.#fail(fatal(`the outbox thread ended with code ${code}`))
    })
  }

  post(request: Request, transfer: ArrayBuffer[] = []): void {
    if (this.#failure === undefined) this.#worker.postMessage(request, transfer)
  }

  ask<Kind extends Question['kind']>(question: Extract<Question, { kind: Kind }>): Promise<Answers[Kind]> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as Answers[Kind]), reject })
      this.post({ kind: 'ask', id, question })
    })
  }

  /** From now on the worker's exit is no failure. */
  expectExit(): void {
    this.#stopping = true
  }

  async terminate(): Promise<void> {
    this.#stopping = true
    await this.#worker.terminate()
  }

  #receive(report: Report): void {
    if ('state' in report) this.#events.state(report.state)
    if ('spent' in report) this.#events.spent(report.spent)
    switch (report.kind) {
      case 'ready':
        return this.#settle(-1).resolve(report)
      case 'committed':
        return this.#events.committed(report.stored)
      case 'stored':
        return this.#events.stored(report.stored)
      case 'answer':
        return this.#settle(report.id).resolve(report.value)
      case 'fatal':
        return this.#fail(gatewayError(report.error))
      case 'notice':
        return this.#events.notice(report.notice)
      case 'ticked':
        return this.#events.ticked()
    }
  }

  #settle(id: number): Waiting {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) throw new Error(`the outbox thread answered question ${id}, which was not asked`)
    this.#waiting.delete(id)
    return waiting
  }

  #fail(error: GatewayError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(error)
    this.#events.failed(error)
  }
}

function fatal(message: string, cause?: unknown): GatewayError {
  return new GatewayError('fatal', message, cause === undefined ? {} : { cause })
}

function gatewayError(error: WireError): GatewayError {
  return new GatewayError(error.kind, error.message, error.remedy === undefined ? {} : { remedy: error.remedy })
}
