/**
 * Reads a Kafka topic back with kcat (librdkafka): a consumer that shares no code with the gateway, and sees what
 * `read_committed` shows to everybody else.
 */
import { spawn } from 'node:child_process'

export interface Consumed {
  readonly partition: number
  readonly offset: number
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly payload: Buffer
}

/** Header line, then the payload by its length: log text holds any byte. */
const FORMAT = '%p\\t%o\\t%K\\t%S\\t%k\\t%h\\n%s\\n'

/** Everything in the topic up to its end, per partition in order. */
export async function readBack(broker: string, topic: string): Promise<Consumed[]> {
  const args = ['-C', '-q', '-e', '-b', broker, '-t', topic, '-o', 'beginning', '-X', 'isolation.level=read_committed', '-f', FORMAT]
  const child = spawn('kcat', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const chunks: Buffer[] = []
  const errors: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw new Error(`kcat ended with ${code}: ${Buffer.concat(errors).toString()}`)
  return parse(Buffer.concat(chunks))
}

function parse(bytes: Buffer): Consumed[] {
  const records: Consumed[] = []
  let at = 0
  while (at < bytes.length) {
    const end = bytes.indexOf(0x0a, at)
    const [partition, offset, , size, key, headers] = bytes.toString('utf8', at, end).split('\t')
    const payload = bytes.subarray(end + 1, end + 1 + Number(size))
    records.push({ partition: Number(partition), offset: Number(offset), key: key ?? '', headers: headersOf(headers ?? ''), payload })
    at = end + 1 + Number(size) + 1
  }
  return records
}

function headersOf(text: string): Record<string, string> {
  const pairs = text.split(',').map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)])
  return Object.fromEntries(pairs) as Record<string, string>
}
