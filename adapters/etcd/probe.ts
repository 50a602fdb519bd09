/** One try at one endpoint: does it know us, does it answer a linearizable read, may we read and write what is ours? */
import { get as getPlain, type IncomingMessage } from 'node:http'
import { get as getSecure } from 'node:https'
import { readFile } from 'node:fs/promises'
import type { Clock } from '../../daemon/clock.ts'
import { messageOf } from '../../daemon/errors.ts'
import { EtcdFailure } from '../../daemon/patch/ports.ts'
import { EtcdClient } from './client.ts'
import type { EtcdClientSettings } from './settings.ts'
import type { Asked, EndpointTry } from '../../daemon/doctor/facts.ts'

export interface BoxKeys {
  /** Read by every box, relative to the prefix. */
  readonly reads: readonly string[]
  /** A key below each place where this box writes. */
  readonly writes: readonly string[]
}

/** No key was ever created at this revision, so a transaction that asks for it changes nothing. */
const NEVER = Number.MAX_SAFE_INTEGER - 1

/** Never rejects; each question takes `settings.timeoutMs` at most. `settings` names the one endpoint. */
export async function tryEndpoint(settings: EtcdClientSettings, keys: BoxKeys, clock: Clock): Promise<EndpointTry> {
  const client = new EtcdClient(settings, clock)
  // A certificate that can't be used is named by the first question.
  const ahead = clockAhead(settings).catch(() => ({}))
  const started = clock.monotonicMs()
  const [first = ''] = keys.reads
  try {
    const { clusterId } = await client.list({ prefix: first, keysOnly: true, limit: 1 })
    const ms = Math.round(clock.monotonicMs() - started)
    const rights = await Promise.all([
      ...keys.reads.slice(1).map((prefix) => asked(`read ${prefix}`, () => client.list({ prefix, keysOnly: true, limit: 1 }))),
      ...keys.writes.map((key) => asked(`write ${key}`, () => wouldWrite(client, key))),
    ])
    return { read: { ms, clusterId }, rights, ...(await ahead) }
  } catch (error) {
    return { read: { ms: Math.round(clock.monotonicMs() - started), ...faultOf(error) }, rights: [], ...(await ahead) }
  } finally {
    client.close()
  }
}

/** etcd checks the rights of both branches before it compares (server/etcdserver/apply/apply_auth.go, checkTxnAuth). */
async function wouldWrite(client: EtcdClient, key: string): Promise<void> {
  await client.transact({ compare: [{ key, create: NEVER }], then: [{ put: key, value: new Uint8Array() }] })
}

async function asked(what: string, question: () => Promise<unknown>): Promise<Asked & { readonly what: string }> {
  try {
    await question()
    return { what }
  } catch (error) {
    return { what, ...faultOf(error) }
  }
}

function faultOf(error: unknown): Asked {
  if (!(error instanceof EtcdFailure)) return { fault: messageOf(error) }
  const { message, remedy, reason } = error
  return { fault: message, reason, ...(remedy !== undefined && { remedy }) }
}

/** etcd answers HTTP on the same port, and Go puts the time into the answer (RFC 9110 section 6.6.1). */
async function clockAhead({ endpoints, tls, timeoutMs }: EtcdClientSettings): Promise<{ readonly clockAheadMs?: number }> {
  const [endpoint] = endpoints
  if (endpoint === undefined) return {}
  const [ca, cert, key] = await Promise.all(
    [tls?.ca, tls?.cert, tls?.key].map(async (path) => (path === undefined ? undefined : readFile(path).catch(() => undefined))),
  )
  const { host, port, secure } = endpoint
  // Whether it is trusted is judged elsewhere; a clock that is wrong makes every certificate look wrong.
  const options = { host, port, path: '/version', timeout: timeoutMs, rejectUnauthorized: false, ca, cert, key }
  return new Promise((resolve) => {
    const answered = (answer: IncomingMessage): void => {
      answer.resume()
      const theirs = Date.parse(answer.headers.date ?? '')
      resolve(Number.isNaN(theirs) ? {} : { clockAheadMs: theirs - Date.now() })
    }
    const request = secure ? getSecure(options, answered) : getPlain(options, answered)
    request.on('timeout', () => request.destroy(new Error('no answer')))
    request.on('error', () => resolve({}))
  })
}
