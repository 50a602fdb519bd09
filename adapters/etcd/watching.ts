import type { Etcd3, ILeaseKeepAliveResponse, IWatchRequest, IWatchResponse } from 'etcd3'
import type { OnHint } from '../../daemon/patch/ports.ts'

type Stream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>

/**
 * One stream of its own for a few watches. The driver's watcher moves its revision before the replay has arrived, and
 * dies in silence after a compaction (both seen), so this is the plain stream: any event is a hint, any end is an end.
 * Two watches of one key tell each change twice; the second time it is no hint.
 */
export function watchStream(
  opening: Promise<Etcd3>,
  requests: readonly IWatchRequest[],
  nameOf: (key: Buffer) => string,
  onHint: OnHint,
): (how: 'quietly' | 'with a hint') => void {
  const told = new Map<string, number>()
  let stream: Stream | undefined
  let isOver = false
  const end = (how: 'quietly' | 'with a hint'): void => {
    if (isOver) return
    isOver = true
    if (stream !== undefined) cancel(stream)
    if (how === 'with a hint') onHint('ended')
  }
  const listen = (opened: Stream): void => {
    stream = opened
    opened.on('error', () => end('with a hint')).on('end', () => end('with a hint'))
    if (isOver) return cancel(opened)
    opened.on('data', ({ canceled, events }: IWatchResponse) => {
      if (isOver) return
      if (canceled) end('with a hint')
      else if (events.length > 0) {
        const news = newsOf(events, told, nameOf)
        if (news.length > 0) onHint('changed', news)
      }
    })
    for (const request of requests) opened.write(request)
  }
  opening
    .then((driver) => driver.watchClient.watch())
    .then(listen)
    .catch(() => end('with a hint')) // why, says the next read
  return end
}

function newsOf(events: IWatchResponse['events'], told: Map<string, number>, nameOf: (key: Buffer) => string): readonly string[] {
  return events.flatMap(({ kv }) => {
    const name = nameOf(kv.key)
    const revision = Number(kv.mod_revision)
    if (revision <= (told.get(name) ?? 0)) return []
    told.set(name, revision)
    return name
  })
}

/** A stream that is cancelled while it can be written to counts as a failed host in the driver: all its links would go. */
function cancel(stream: Stream): void {
  stream.end()
  stream.cancel()
}

/** The renewed TTL in s; 0 when the lease has gone. */
export async function renewOnce(driver: Etcd3, id: string, options: { deadline: number }): Promise<number> {
  const stream = await driver.leaseClient.leaseKeepAlive(options)
  return new Promise((resolve, reject) => {
    stream.on('data', ({ TTL }: ILeaseKeepAliveResponse) => {
      resolve(Number(TTL))
      stream.end()
    })
    stream.on('error', reject)
    stream.on('end', () => reject(new Error('etcd ended the stream without an answer')))
    stream.write({ ID: id })
  })
}
