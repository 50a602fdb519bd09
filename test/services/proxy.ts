import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { freePort } from './ports.ts'
import { kafkaFilter, noFaults, plainFilter } from './proxy-filter.ts'
import type { Faults, RequestHook } from './proxy-filter.ts'
import { Pipe, newLine } from './proxy-line.ts'
import type { Gate, Line } from './proxy-line.ts'

export type { KafkaVerdict, RequestHook } from './proxy-filter.ts'

export interface ProxyOptions {
  /** A port on 127.0.0.1, or `host:port`, with or without a scheme in front. */
  readonly target: number | string
  readonly port?: number
  /** Understand Kafka's framing: needed for `onRequest` and `dropKafkaResponses`. Not through TLS. */
  readonly kafka?: boolean
}

export interface Proxy {
  readonly port: number
  /** `127.0.0.1:<port>` */
  readonly endpoint: string
  /** Payload bytes handed on in each direction since the start. TCP's and IP's own bytes are not in it. */
  readonly bytes: { readonly toServer: number; readonly toClient: number }
  /** Responses that were discarded so far. */
  readonly swallowed: number
  /** Connections accepted since the start. */
  readonly accepted: number
  /** Connections open now. */
  readonly open: number
  /** Resets (RST) every open connection at both ends. New ones are accepted. */
  cut(): void
  /** Stops listening: a new connection gets ECONNREFUSED. Open ones stay; `cut()` ends them. */
  refuse(): Promise<void>
  /** Listens again on the same port. */
  accept(): Promise<void>
  /** A black hole: sockets stay open and are accepted, nothing gets through, no close either, until `heal()` or `cut()`. */
  halfOpen(): void
  /** Discards what the server sends (whole responses with `kafka`), where the predicate is true. */
  dropResponses(predicate?: (bytes: Buffer) => boolean): void
  /** Discards the responses to the next `count` requests with this api key. The broker carries them out. */
  dropKafkaResponses(apiKey: number, count: number): void
  /** Asked once for each Kafka request, before it is forwarded; undefined takes the hook away. */
  onRequest(hook: RequestHook | undefined): void
  /** One-way delay in ms, in both directions: a round trip takes twice as long. */
  delay(ms: number): void
  /** Bytes per second in each direction, shared by all connections; undefined: no bound. */
  throttle(bytesPerSecond: number | undefined): void
  /** Takes every fault away and listens. What a black hole held back arrives now. */
  heal(): Promise<void>
  /** Ends all connections and stops listening. Idempotent. */
  stop(): Promise<void>
}

interface Link {
  readonly target: { readonly host: string; readonly port: number }
  readonly isKafka: boolean
  readonly faults: Faults
  readonly toServer: Line
  readonly toClient: Line
  readonly gate: Gate
  readonly cuts: Set<() => void>
  accepted: number
}

/** Starts a TCP proxy on 127.0.0.1 whose faults are set while it runs. */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const port = options.port ?? (await freePort())
  const link: Link = {
    target: parseTarget(options.target),
    isKafka: options.kafka ?? false,
    faults: noFaults(),
    toServer: newLine(),
    toClient: newLine(),
    gate: { closed: undefined },
    cuts: new Set(),
    accepted: 0,
  }
  const proxy = createProxy(link, port)
  await proxy.accept()
  return proxy
}

function parseTarget(target: number | string): Link['target'] {
  if (typeof target === 'number') return { host: '127.0.0.1', port: target }
  const match = /^(?:\w+:\/\/)?([^/:]+):(\d+)\/?$/.exec(target)
  if (match === null) throw new Error(`"${target}" is no target; write a port or host:port`)
  return { host: match[1] as string, port: Number(match[2]) }
}

function createProxy(link: Link, port: number): Proxy {
  let server: Server | undefined
  const proxy: Proxy = {
    port,
    endpoint: `127.0.0.1:${port}`,
    get bytes() {
      return { toServer: link.toServer.bytes, toClient: link.toClient.bytes }
    },
    get swallowed() {
      return link.faults.swallowed
    },
    get accepted() {
      return link.accepted
    },
    get open() {
      return link.cuts.size
    },
    cut: () => cutAll(link),
    async refuse() {
      const closing = server
      server = undefined
      closing?.close()
      // The listening socket goes in the next turn of the loop; its "close" event waits for the connections.
      await new Promise((resolve) => setImmediate(resolve))
    },
    async accept() {
      server ??= await listen(link, port)
    },
    ...faultControls(link),
    async heal() {
      clearFaults(link)
      await proxy.accept()
    },
    async stop() {
      await proxy.refuse()
      cutAll(link)
    },
  }
  return proxy
}

type FaultControls = Pick<Proxy, 'halfOpen' | 'dropResponses' | 'dropKafkaResponses' | 'onRequest' | 'delay' | 'throttle'>

function faultControls(link: Link): FaultControls {
  const needKafka = (): void => {
    if (!link.isKafka) throw new Error('start the proxy with "kafka: true" for faults by api key')
  }
  return {
    halfOpen() {
      link.gate.closed ??= Promise.withResolvers()
    },
    dropResponses(predicate = () => true) {
      link.faults.dropResponse = predicate
    },
    dropKafkaResponses(apiKey, count) {
      needKafka()
      link.faults.drops.set(apiKey, count)
    },
    onRequest(hook) {
      needKafka()
      link.faults.hook = hook
    },
    delay(ms) {
      link.toServer.delayMs = ms
      link.toClient.delayMs = ms
    },
    throttle(bytesPerSecond) {
      link.toServer.bytesPerSecond = bytesPerSecond
      link.toClient.bytesPerSecond = bytesPerSecond
    },
  }
}

function clearFaults(link: Link): void {
  const { faults, gate } = link
  faults.dropResponse = undefined
  faults.hook = undefined
  faults.drops.clear()
  for (const line of [link.toServer, link.toClient]) {
    line.delayMs = 0
    line.bytesPerSecond = undefined
  }
  const { closed } = gate
  gate.closed = undefined
  closed?.resolve()
}

function cutAll(link: Link): void {
  for (const cut of [...link.cuts]) cut()
}

function listen(link: Link, port: number): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => join(link, client))
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => resolve(server))
  })
}

/** Ties a client to a connection of its own to the server. */
function join(link: Link, client: Socket): void {
  const server = connect({ ...link.target, allowHalfOpen: true, noDelay: true })
  const ended = new AbortController()
  const cut = (): void => {
    link.cuts.delete(cut)
    ended.abort()
    client.resetAndDestroy()
    server.resetAndDestroy()
  }
  link.cuts.add(cut)
  link.accepted += 1
  const up = new Pipe(client, server, link.toServer, link.gate, ended.signal)
  const down = new Pipe(server, client, link.toClient, link.gate, ended.signal)
  const ways = { toServer: (bytes: Buffer) => up.push(bytes), toClient: (bytes: Buffer) => down.push(bytes), cut }
  const filter = (link.isKafka ? kafkaFilter : plainFilter)(link.faults, ways)
  client.on('data', (chunk: Buffer) => filter.request(chunk))
  server.on('data', (chunk: Buffer) => filter.response(chunk))
  passOnClose(client, server, up, cut)
  passOnClose(server, client, down, cut)
}

/** A FIN is passed on as a FIN, a reset as a reset, both behind the bytes before them and through the gate. */
function passOnClose(source: Socket, sink: Socket, pipe: Pipe, cut: () => void): void {
  source.once('end', () => pipe.afterwards(() => void sink.end()))
  source.on('error', () => pipe.afterwards(cut))
  source.once('close', () => pipe.afterwards(() => sink.destroyed && cut()))
}
