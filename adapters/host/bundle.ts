/** A gzipped tar of a few texts, in memory: it must also be made where no disk takes a file. */
import { createGzip } from 'node:zlib'
import { pack } from 'tar-stream'

export interface BundleEntry {
  readonly name: string
  readonly text: string
}

/** Files of mode 0600 below `folder`. */
export async function bundle(folder: string, entries: readonly BundleEntry[], madeMs: number): Promise<Buffer> {
  const tar = pack()
  const zipped = tar.pipe(createGzip({ level: 9 }))
  for (const { name, text } of entries) tar.entry({ name: `${folder}/${name}`, mode: 0o600, mtime: new Date(madeMs) }, text)
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of zipped as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks)
}
