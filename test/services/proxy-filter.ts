import { FrameSplitter, readRequestHead, readResponseCorrelationId } from './kafka-frames.ts'

/**
 * What happens to one Kafka request:
 * - `pass`: nothing;
 * - `cut`: it never reaches the broker, the connection is reset;
 * - `dropResponse`: the broker carries it out, the client waits in vain, the connection stays;
 * - `cutAfterResponseSwallowed`: the broker carries it out, its answer is discarded, then the connection is reset.
 */
export type KafkaVerdict = 'pass' | 'cut' | 'dropResponse' | 'cutAfterResponseSwallowed'

/** `frame` is the whole request, size included, for tests that must look inside. */
export type RequestHook = (apiKey: number, apiVersion: number, correlationId: number, frame: Buffer) => KafkaVerdict

/** The faults that are set now; shared by all connections of a proxy and changed while they live. */
export interface Faults {
  /** Which bytes (or whole Kafka responses) from the server are discarded. */
  dropResponse: ((bytes: Buffer) => boolean) | undefined
  hook: RequestHook | undefined
  /** How many further requests with this api key lose their response. */
  readonly drops: Map<number, number>
  /** Responses (Kafka) or chunks (other protocols) that were discarded. */
  swallowed: number
}

/** What a filter may do with a connection. */
export interface Ways {
  toServer(bytes: Buffer): void
  toClient(bytes: Buffer): void
  cut(): void
}

/** Looks at the bytes of one connection, and forwards them or not. */
export interface Filter {
  request(chunk: Buffer): void
  response(chunk: Buffer): void
}

export function noFaults(): Faults {
  return { dropResponse: undefined, hook: undefined, drops: new Map(), swallowed: 0 }
}

/** Any protocol: chunks as they come. */
export function plainFilter(faults: Faults, ways: Ways): Filter {
  return {
    request: (chunk) => ways.toServer(chunk),
    response(chunk) {
      if (faults.dropResponse?.(chunk) === true) faults.swallowed += 1
      else ways.toClient(chunk)
    },
  }
}

/** Kafka: whole requests and responses, matched by correlation id. */
export function kafkaFilter(faults: Faults, ways: Ways): Filter {
  const requests = new FrameSplitter()
  const responses = new FrameSplitter()
  const marked = new Map<number, KafkaVerdict>()
  return {
    request(chunk) {
      for (const frame of requests.push(chunk)) {
        const { apiKey, apiVersion, correlationId } = readRequestHead(frame)
        const verdict = judge(faults, apiKey, () => faults.hook?.(apiKey, apiVersion, correlationId, frame))
        if (verdict === 'cut') return ways.cut()
        if (verdict !== 'pass') marked.set(correlationId, verdict)
        ways.toServer(frame)
      }
    },
    response(chunk) {
      for (const frame of responses.push(chunk)) {
        const correlationId = readResponseCorrelationId(frame)
        const verdict = marked.get(correlationId) ?? 'pass'
        marked.delete(correlationId)
        if (verdict === 'pass' && faults.dropResponse?.(frame) !== true) {
          ways.toClient(frame)
          continue
        }
        faults.swallowed += 1
        if (verdict === 'cutAfterResponseSwallowed') return ways.cut()
      }
    },
  }
}

function judge(faults: Faults, apiKey: number, ask: () => KafkaVerdict | undefined): KafkaVerdict {
  const verdict = ask() ?? 'pass'
  const left = faults.drops.get(apiKey) ?? 0
  if (verdict !== 'pass' || left === 0) return verdict
  faults.drops.set(apiKey, left - 1)
  return 'dropResponse'
}
