/** A record of the gateway's own for `<prefix>.events`. */
import type { InternalRecord, OutboxWriter } from './ports.ts'

export interface Teller {
  readonly outbox: Pick<OutboxWriter, 'submitInternal' | 'state'>
  readonly gateway: string
  readonly wallMs: number
}

export function submitEvent({ outbox, gateway, wallMs }: Teller, type: string, document: object): void {
  const record: InternalRecord = {
    destination: 'events',
    key: gateway,
    value: Buffer.from(JSON.stringify({ gateway, epoch: outbox.state().epoch, ...document })),
    headers: [['type', type]],
    receivedMs: wallMs,
  }
  outbox.submitInternal(record)
}
