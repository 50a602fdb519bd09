import { connect } from 'node:net'

/**
 * A Metadata request, version 1, for no topic (Kafka protocol guide: size, api key 3,
 * version, correlation id, client id null, empty topic list).
 */
const METADATA_REQUEST = Buffer.from([0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0])

/**
 * True when the broker on this port (in the clear) names itself in its metadata.
 * An open port alone means little: it opens before the broker has registered.
 */
export function brokerAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let received = Buffer.alloc(0)
    const socket = connect(port, '127.0.0.1', () => socket.write(METADATA_REQUEST))
    const finish = (ready: boolean): void => {
      socket.destroy()
      resolve(ready)
    }
    socket.setTimeout(2_000, () => finish(false))
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes])
      // Size, correlation id, then the number of brokers.
      if (received.length >= 12) finish(received.readInt32BE(8) > 0)
    })
    socket.once('error', () => finish(false))
    socket.once('close', () => finish(false))
  })
}
