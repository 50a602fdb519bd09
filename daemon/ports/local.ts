/** The gateway's own log, control socket and metrics. */

/** Structured log; pino has this shape. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface RouteRequest {
  /** Values of the `:name` parts of the path. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
}

/** A JSON or plain-text answer; anything else that a route returns is sent as JSON with status 200. */
export interface Reply {
  readonly status: number
  readonly body: string | object
}

export interface Route {
  readonly method: 'GET' | 'POST'
  /** `/dead-letters/:id/retry` */
  readonly path: string
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
