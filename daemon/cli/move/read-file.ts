/** Reads an export from its files and proves that it is what was written: each line, each block, each part, and the sum. */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { GatewayError, messageOf } from '../../errors.ts'
import { checkedHead } from '../../compose/imports/arriving.ts'
import { counted, type ExportHead, type ExportSum, type ExportTail, type LaneCount } from '../../move/file.ts'
import { isMessage, messageOf as messageIn, unsealed } from '../../move/lines.ts'
import type { Lane } from '../../ports.ts'
import { printable } from '../text.ts'

const CHUNK_BYTES = 1 << 20
/** No message of a gateway makes a longer line. */
const LINE_BYTES_MAX = 512 << 20
const LF = 0x0a

export interface ReadExport {
  readonly head: ExportHead
  readonly sum: ExportSum
  readonly files: readonly string[]
  /** Of the last part. */
  readonly sha256: string
}

interface Seen {
  head: ExportHead | undefined
  messages: number
  bytes: number
  readonly lanes: Partial<Record<Lane, LaneCount>>
}

/** Called for each message, in order, after its line was checked. */
export type Visit = () => void

/**
 * All parts of the export whose first part is `path`. Throws `rejected` that names the part and the line at the first
 * fault. `nameOf` gives the path of part n.
 */
export async function readExport(path: string, visit: Visit, nameOf: (part: number) => string = partName(path)): Promise<ReadExport> {
  const seen: Seen = { head: undefined, messages: 0, bytes: 0, lanes: {} }
  const files: string[] = []
  let before = ''
  for (let part = 1; ; part += 1) {
    const file = nameOf(part)
    if (part > 1 && !existsSync(file)) throw fault(`part ${part} is missing: there is no ${file}`, 'put all parts into one folder')
    const tail = await new PartReader(file, part, before, seen).read(visit)
    files.push(file)
    before = tail.sha256
    if (!tail.last) continue
    const { head, messages, bytes, lanes } = seen
    if (head === undefined) throw fault(`${file} has no first line`)
    return { head, sum: { messages, bytes, lanes }, files, sha256: before }
  }
}

/** The messages of files that were checked, as lines; who takes them in checks each line's sum again. */
export async function* messagesOf(files: readonly string[]): AsyncGenerator<string> {
  for (const file of files) for await (const { text } of linesOf(file)) if (isMessage(text)) yield text
}

/** `x.ndjson`, `x.2.ndjson`, `x.3.ndjson`… */
export function partName(first: string): (part: number) => string {
  const stem = first.replace(/\.ndjson$/, '')
  return (part) => (part === 1 ? first : `${stem}.${part}.ndjson`)
}

class PartReader {
  readonly #file: string
  readonly #part: number
  readonly #before: string
  readonly #seen: Seen
  readonly #hash = createHash('sha256')
  #line = 0
  #lastSound = 0
  #tail: ExportTail | undefined

  constructor(file: string, part: number, before: string, seen: Seen) {
    this.#file = file
    this.#part = part
    this.#before = before
    this.#seen = seen
  }

  async read(visit: Visit): Promise<ExportTail> {
    for await (const { bytes, text } of linesOf(this.#file)) {
      this.#line += 1
      if (this.#tail !== undefined) throw this.#fault('it goes on behind its last line')
      this.#take(text, visit)
      this.#hash.update(bytes)
    }
    if (this.#tail !== undefined) return this.#tail
    const remedy = 'it was cut short: the copy or the export was not finished'
    throw fault(`${printable(this.#file)} ends after line ${this.#line} without its last line`, remedy)
  }

  #take(text: string, visit: Visit): void {
    try {
      const document = unsealed(text)
      if (this.#line === 1) return this.#takeHead(document)
      if ('lane' in document) return this.#takeMessage(document, visit)
      if ('block' in document) return this.#checkDigest(document['sha256'])
      if ('end' in document) return this.#takeTail(document as unknown as ExportTail)
      throw fault('it is none of the lines of an export')
    } catch (error) {
      if (error instanceof GatewayError && error.kind === 'rejected') throw this.#fault(error.message, error.remedy)
      throw this.#fault(messageOf(error))
    }
  }

  #takeHead(document: Record<string, unknown>): void {
    const head = checkedHead(document)
    if (head.part !== this.#part) throw fault(`it is part ${head.part}, and part ${this.#part} was expected`, 'name the first part')
    const first = this.#seen.head
    if (first !== undefined && (head.id !== first.id || head.before !== this.#before))
      throw fault('it does not belong to the parts before it')
    this.#seen.head ??= head
  }

  #takeMessage(document: Record<string, unknown>, visit: Visit): void {
    const { lane, stored } = messageIn(document)
    const { lanes, head } = this.#seen
    if (head?.epochs.some(({ epoch }) => epoch === stored.epoch) !== true) throw fault('its epoch is not one that the first line names')
    if (stored.position <= (lanes[lane]?.last ?? 0)) throw fault('its position is not above the one before it')
    this.#seen.lanes[lane] = counted(lanes, lane, stored.position)
    this.#seen.messages += 1
    this.#seen.bytes += 'internal' in stored ? stored.internal.value.length : stored.envelope.payload.length
    visit()
  }

  #takeTail(tail: ExportTail): void {
    this.#checkDigest(tail.sha256)
    if (tail.messages !== this.#seen.messages || tail.bytes !== this.#seen.bytes)
      throw fault(`it counts ${tail.messages} messages, and ${this.#seen.messages} are there`)
    this.#tail = tail
  }

  #checkDigest(expected: unknown): void {
    if (this.#hash.copy().digest('hex') !== expected)
      throw fault(`the digest of the lines ${this.#lastSound + 1} to ${this.#line - 1} does not match`)
    this.#lastSound = this.#line
  }

  #fault(why: string, remedy?: string): GatewayError {
    const inWords = remedy ?? 'nothing was imported; copy the file again from the stick, or export again if the box still has its messages'
    return fault(`${printable(this.#file)}, line ${this.#line}: ${why}`, inWords)
  }
}

function fault(message: string, remedy?: string): GatewayError {
  return new GatewayError('rejected', message, remedy === undefined ? {} : { remedy })
}

async function* linesOf(file: string): AsyncGenerator<{ readonly bytes: Buffer; readonly text: string }> {
  let rest: Buffer[] = []
  let restBytes = 0
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
    let from = 0
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, from)) {
      const piece = chunk.subarray(from, at + 1)
      const bytes = rest.length === 0 ? piece : Buffer.concat([...rest, piece])
      rest = []
      restBytes = 0
      from = at + 1
      yield { bytes, text: bytes.toString('utf8', 0, bytes.length - 1) }
    }
    if (from === chunk.length) continue
    rest.push(Buffer.from(chunk.subarray(from)))
    restBytes += chunk.length - from
    if (restBytes > LINE_BYTES_MAX) throw fault(`${printable(file)} is no export: it has a line without an end`)
  }
  if (rest.length > 0) {
    const bytes = Buffer.concat(rest)
    yield { bytes, text: bytes.toString('utf8') }
  }
}
