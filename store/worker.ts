/** The worker thread: the only writer of `outbox.db`. Requests come and are answered strictly in turn. */
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { Engine } from './engine.ts'
import { openWritable } from './database.ts'
import { migrate } from './schema.ts'
import type { Question, Report, Request, WireError, WorkerStart } from './protocol.ts'

const port = parentPort as MessagePort
const start = workerData as WorkerStart

function say(report: Report): void {
  port.postMessage(report)
}

function wireError(error: unknown): WireError {
  if (error instanceof GatewayError && error.kind !== 'saturated' && error.kind !== 'fenced') {
    return { kind: error.kind, message: error.message, remedy: error.remedy }
  }
  return { kind: 'fatal', message: messageOf(error), remedy: undefined }
}

const db = openWritable(join(start.directory, 'outbox.db'))
migrate(db)
const engine = new Engine(db, start)
say({ kind: 'ready', state: engine.state(), exchanges: engine.exchanges(), ids: engine.storedIds(start), notices: [] })

function retry(now: Parameters<Engine['retryWaiting']>[0]): void {
  const stored = engine.retryWaiting(now)
  if (stored.length > 0) say({ kind: 'stored', stored, state: engine.state() })
}

function ask(id: number, question: Question): void {
  if (question.kind === 'stop') {
    db.pragma('wal_checkpoint(TRUNCATE)')
    say({ kind: 'answer', id, value: undefined, state: engine.state() })
    db.close()
    port.close()
    return
  }
  const value = engine.answer(question, () => undefined)
  say({ kind: 'answer', id, value, state: engine.state() })
  if (question.kind === 'advance') retry(question.now)
}

port.on('message', (request: Request) => {
  try {
    switch (request.kind) {
      case 'commit': {
        const stored = engine.commit(request)
        say({ kind: 'committed', id: request.id, stored, state: engine.state() })
        break
      }
      case 'ask': ask(request.id, request.question); break
      case 'protect': for (const { lane, position } of request.ends) engine.protection.handOut(lane, position); break
      case 'unprotect': engine.protection.release(); break
      case 'configure': engine.configure(request.settings); break
      case 'tick': {
        engine.room.refresh()
        if (engine.ledger.foldDue(engine.settings.ledgerMaxDevices)) engine.ledger.fold(engine.transactions, engine.settings.ledgerMaxDevices)
        db.pragma('wal_checkpoint(PASSIVE)')
        retry(request.now)
        say({ kind: 'state', state: engine.state() })
        break
      }
    }
  } catch (error) {
    say({ kind: 'fatal', error: wireError(error) })
  }
})
