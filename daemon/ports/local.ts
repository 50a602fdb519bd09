/** The gateway's own log, control socket and metrics. */

/** Structured log; pino has this shape. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Whoever started us and wants to know how we are: systemd. */
export interface ServiceNotices {
  /** `READY=1`, `STATUS=…`: sd_notify(3), one datagram. Never throws. */
  send(...assignments: readonly string[]): void
}

export interface RouteRequest {
  /** Values of the `:name` parts of the path. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  /** The peer's; empty on a unix socket. */
  readonly address: string
  /** Empty unless the route names `bodyBytesMax`. */
  readonly body: string
  /** Aborted when the client has gone, the answer is over or the endpoint stops: what waits for a stream's next piece must end. */
  readonly signal: AbortSignal
}

interface Heading {
  readonly status: number
  readonly headers?: Readonly<Record<string, string | readonly string[]>>
  /** Else JSON for an object, plain text for a string. */
  readonly contentType?: string
}

/** Sent whole. Bytes need a content type. */
export interface WholeReply extends Heading {
  readonly body: string | object | Uint8Array
}

/**
 * Sent piece by piece, as fast as the client takes it: the next piece is asked for when the last one has gone. `return`
 * is called when the client goes away. What throws midway cuts the connection, so that nobody takes the part for all.
 */
export interface StreamReply extends Heading {
  readonly stream: AsyncIterable<string | Uint8Array>
  readonly contentType: string
  /** A client that takes nothing for so long is dropped. */
  readonly stallMs?: number
}

export type Reply = WholeReply | StreamReply

export interface Route {
  readonly method: 'GET' | 'POST'
  /** `/dead-letters/:id/retry` */
  readonly path: string
  /** A longer body is refused; without it a body is left unread. */
  readonly bodyBytesMax?: number
  run(request: RouteRequest): Promise<Reply> | Reply
}

export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** One metric family in Prometheus' sense; the name has no `edge_gateway_` prefix. */
export interface Metric {
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  readonly samples: readonly MetricSample[]
}
