import { Duplex } from 'node:stream'

/** The connection as the bridge sees it. */
export interface BridgeEnd {
  /** The broker reads again after `push` said that it is behind. */
  wanted(): void
  write(bytes: Buffer, done: (error?: Error | null) => void): void
  /** The broker closed its side; `error` says why, if it was an error. */
  brokerClosed(error: Error | null): void
}

/**
 * What the broker takes for the device's socket: it carries CONNECT, SUBSCRIBE and the like in whole packets, and
 * the broker's own packets back. PUBLISH never passes here.
 */
export class Bridge<End extends BridgeEnd> extends Duplex {
  readonly connection: End

  constructor(connection: End) {
    super({ readableHighWaterMark: 16_384, writableHighWaterMark: 16_384 })
    this.connection = connection
  }

  override _read(): void {
    this.connection.wanted()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.connection.write(chunk, done)
  }

  /** The broker corks while it writes one packet: joined here, nothing comes between its parts. */
  override _writev(chunks: { readonly chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.connection.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.connection.brokerClosed(error)
    done(null)
  }
}
