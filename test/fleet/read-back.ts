/**
 * Reads a Kafka topic back with kcat (librdkafka): a consumer that shares no code with the gateway, and sees what
 * `read_committed` shows to everybody else.
 */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Consumed {
  readonly partition: number
  readonly offset: number
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly payload: Buffer
}

/** Header line, then the payload by its length: log text holds any byte. */
const FORMAT = '%p\\t%o\\t%K\\t%S\\t%k\\t%h\\n%s\\n'

/** Longer than a transaction that nobody ends stays open. */
const DECIDED_MS = 90_000
const LOOK_MS = 50

/**
 * Everything in the topic up to where it ends now, per partition in order. Kafka answers a commit before it has written
 * its markers, and until then a reader sees none of it: so it is waited for first. Rejects when a transaction stays open.
 */
export async function readBack(broker: string, topic: string): Promise<Consumed[]> {
  await decided(broker, topic)
  return parse(await kcat(['-C', '-q', '-e', '-b', broker, '-t', topic, '-o', 'beginning', ...COMMITTED, '-f', FORMAT]))
}

const COMMITTED = ['-X', 'isolation.level=read_committed']

async function decided(broker: string, topic: string): Promise<void> {
  const listed = JSON.parse((await kcat(['-L', '-J', '-b', broker, '-t', topic])).toString()) as {
    topics: { partitions: { partition: number }[] }[]
  }
  const places = listed.topics.flatMap(({ partitions }) => partitions).flatMap(({ partition }) => ['-t', `${topic}:${partition}:-1`])
  if (places.length === 0) return
  const ends = async (isolation: readonly string[]): Promise<readonly number[]> => {
    const lines = (await kcat(['-Q', '-b', broker, ...places, ...isolation])).toString().trim().split('\n').sort()
    return lines.map((line) => Number(/offset (\d+)/.exec(line)?.[1]))
  }
  const wanted = await ends([])
  const deadlineMs = performance.now() + DECIDED_MS
  for (;;) {
    const stable = await ends(COMMITTED)
    if (wanted.every((end, at) => (stable[at] ?? 0) >= end)) return
    if (performance.now() > deadlineMs)
      throw new Error(`a transaction stays open in ${topic}: it ends at ${wanted.join(', ')}, and is read to ${stable.join(', ')}`)
    await sleep(LOOK_MS)
  }
}

async function kcat(args: readonly string[]): Promise<Buffer> {
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
  return Buffer.concat(chunks)
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
