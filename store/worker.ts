/** The worker thread: the only writer of `outbox.db`. Requests are taken strictly in turn. */
import module from 'node:module'
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { Desk } from './desk.ts'
import { openingError, openStore } from './opening.ts'
import type { Report, Request, WireError, WorkerStart } from './protocol.ts'

const port = parentPort as MessagePort
const start = workerData as WorkerStart

function say(report: Report, transfer: ArrayBuffer[] = []): void {
  port.postMessage(report, transfer)
}

function wireError(error: unknown): WireError {
  if (error instanceof GatewayError) return { kind: error.kind, message: error.message, remedy: error.remedy }
  return { kind: 'fatal', message: `the buffer failed: ${messageOf(error)}`, remedy: 'Check the disk; the gateway starts again by itself.' }
}

function serve(): void {
  const store = openStore(start)
  const desk = new Desk(store, start, say)
  const { engine, notices } = store
  port.on('message', (request: Request) => {
    try {
      if (request.kind !== 'ask' || request.question.kind !== 'stop') return desk.take(request)
      say({ kind: 'answer', id: request.id, value: undefined, state: desk.close(request.question.now) })
      port.close()
    } catch (error) {
      try {
        desk.fail(error)
      } finally {
        say({ kind: 'fatal', error: wireError(error) })
        port.close()
      }
    }
  })
  say({ kind: 'ready', state: desk.state(), exchanges: engine.exchanges(), ids: engine.ids.load(start.now), notices })
}

try {
  serve()
  // A daemon that is killed never gets to it at its exit.
  module.flushCompileCache()
} catch (error) {
  say({ kind: 'fatal', error: wireError(openingError(error, start.directory)) })
}
