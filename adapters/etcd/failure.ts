import { messageOf } from '../../daemon/errors.ts'
import type { ErrorKind } from '../../daemon/errors.ts'
import { EtcdFailure } from '../../daemon/patch/ports.ts'
import type { EtcdReason } from '../../daemon/patch/ports.ts'

interface Verdict {
  readonly kind: ErrorKind
  readonly reason: EtcdReason
  readonly fate: 'none' | 'unknown'
  readonly remedy?: string
}

const CREDENTIALS: Verdict = {
  kind: 'transient',
  reason: 'credentials',
  fate: 'none',
  remedy: 'Look at etcd.username, etcd.passwordFile and etcd.tls, and at the roles of that user in etcd.',
}
const REFUSED: Verdict = { kind: 'rejected', reason: 'refused', fate: 'none' }
const UNAVAILABLE: Verdict = { kind: 'transient', reason: 'unavailable', fate: 'unknown' }

/** etcd's own words (server/etcdserver/api/v3rpc/rpctypes/error.go), or the name of gRPC's code, which alone says too little. */
const WORDS: readonly (readonly [RegExp, Verdict])[] = [
  [/required revision has been compacted/, { kind: 'transient', reason: 'compacted', fate: 'none' }],
  [/requested lease not found/, { kind: 'fenced', reason: 'lease-gone', fate: 'none' }],
  [/permission[ _]denied|authentication failed|invalid auth token|user name is empty|user name not found|unauthenticated/i, CREDENTIALS],
  [/revision of auth store is old|authentication is not enabled/, CREDENTIALS],
  [
    /database space exceeded/,
    { ...REFUSED, kind: 'transient', remedy: 'etcd is full: compact and defragment it, then disarm its alarm (etcdctl alarm disarm).' },
  ],
  [/too many operations|request is too large|message length too large|larger than max|duplicate key given/, REFUSED],
]

/** The sentence names the call; the driver's error stays as the cause. */
export function toFailure(call: string, error: unknown): EtcdFailure {
  if (error instanceof EtcdFailure) return error
  const words = messageOf(error)
  const found = WORDS.find(([pattern]) => pattern.test(words))?.[1] ?? UNAVAILABLE
  const { kind, ...details } = found
  return new EtcdFailure(kind, `etcd: ${call}: ${words}`, { ...details, cause: error })
}

/** Files of keys and secrets: etcd was not asked. */
export function unreadable(path: string, error: unknown): EtcdFailure {
  const remedy = `Let the user that runs the gateway read ${path}, or name another file.`
  return new EtcdFailure('transient', `${path} can't be read: ${messageOf(error)}`, {
    reason: 'credentials',
    fate: 'none',
    remedy,
    cause: error,
  })
}
