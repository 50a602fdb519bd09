import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import kafkajs from 'kafkajs'

/** kafkajs knows how to name zstd (Produce v7, KIP-110) and leaves the codec to others; Node has had one since 22.15. */
export function registerZstd(): void {
  kafkajs.CompressionCodecs[kafkajs.CompressionTypes.ZSTD] = () => ({
    compress: (encoder: { readonly buffer: Buffer }) => promisify(zstdCompress)(encoder.buffer),
    decompress: (bytes: Buffer) => promisify(zstdDecompress)(bytes),
  })
}
