/** Between the port's words and etcd's messages (rpc.proto). Keys are put under the prefix here, and taken out again. */
import type { ICompare, IKeyValue, IRangeRequest, IRequestOp, IResponseHeader, IResponseOp, IWatchRequest } from 'etcd3'
import type { Answer, Compare, KeyValue, Operation, Place, Query, WatchTarget } from '../../daemon/patch/ports.ts'

export class Wire {
  readonly #prefix: string

  constructor(prefix: string) {
    this.#prefix = prefix
  }

  key(key: string): Buffer {
    return Buffer.from(this.#prefix + key)
  }

  compare(compare: Compare): ICompare {
    const key = this.key(compare.key)
    if ('create' in compare) return { key, target: 'Create', result: 'Equal', create_revision: compare.create }
    return { key, target: 'Mod', result: 'Equal', mod_revision: compare.mod }
  }

  operation(operation: Operation): IRequestOp {
    if ('put' in operation)
      return { request_put: { key: this.key(operation.put), value: Buffer.from(operation.value), lease: operation.lease ?? '0' } }
    if ('delete' in operation) return { request_delete_range: { key: this.key(operation.delete) } }
    if ('get' in operation) return { request_range: { key: this.key(operation.get) } }
    return { request_range: this.range(operation.list) }
  }

  /** From `after` on, exclusive, when given. */
  range(query: Query, after?: string): IRangeRequest {
    const { prefix, keysOnly = false, minMod, maxCreate, youngestFirst = false, limit, revision } = query
    return {
      key: after === undefined ? this.key(prefix) : Buffer.concat([this.key(after), Buffer.of(0)]),
      range_end: endOf(this.key(prefix)),
      keys_only: keysOnly,
      ...(minMod !== undefined && { min_mod_revision: minMod }),
      ...(maxCreate !== undefined && { max_create_revision: maxCreate }),
      ...(youngestFirst && { sort_order: 'Descend' as const, sort_target: 'Create' as const }),
      ...(limit !== undefined && { limit }),
      ...(revision !== undefined && { revision }),
    }
  }

  watch(target: WatchTarget, revision: number): IWatchRequest {
    return { create_request: { ...this.#watched(target), start_revision: revision } }
  }

  #watched(target: WatchTarget): { key: Buffer; range_end?: Buffer } {
    if ('key' in target) return { key: this.key(target.key) }
    if ('prefix' in target) return { key: this.key(target.prefix), range_end: endOf(this.key(target.prefix)) }
    return { key: this.key(target.from), range_end: Buffer.concat([this.key(target.to), Buffer.of(0)]) }
  }

  name(key: Buffer): string {
    return key.toString('utf8').slice(this.#prefix.length)
  }

  entry({ key, value, create_revision, mod_revision }: IKeyValue): KeyValue {
    const createRevision = Number(create_revision)
    return { key: this.name(key), value, createRevision, modRevision: Number(mod_revision) }
  }

  answer(response: IResponseOp): Answer {
    const { response_range: range, response_delete_range: deleted } = response as Partial<IResponseOp>
    if (range) return { entries: range.kvs.map((found) => this.entry(found)), count: Number(range.count) }
    return { entries: [], count: Number(deleted?.deleted ?? 0) }
  }
}

export function placeOf(header: IResponseHeader): Place {
  return { clusterId: header.cluster_id, revision: Number(header.revision) }
}

/** First key after all that begin with `prefix`. Its last byte is `/` or a character of ours, never 0xff. */
function endOf(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix)
  const last = end.length - 1
  end[last] = (end[last] ?? 0) + 1
  return end
}
