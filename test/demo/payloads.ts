import { readFile } from 'node:fs/promises'

export type PayloadOf = (device: string, sequence: number) => Buffer

/** A file's lines as bytes, over and over, or lines of our own. */
export async function payloads(from: string | undefined): Promise<PayloadOf> {
  if (from === undefined) return ownLine
  const lines = linesOf(await readFile(from))
  if (lines.length === 0) throw new Error(`${from} has no lines`)
  let next = 0
  return () => lines[next++ % lines.length] ?? Buffer.alloc(0)
}

function ownLine(device: string, sequence: number): Buffer {
  const level = sequence % 50 === 0 ? 'error' : 'info'
  return Buffer.from(JSON.stringify({ level, device, sequence, msg: `pump pressure ${(sequence * 7919) % 100} kPa` }))
}

/** Without the line feed; a carriage return before it belongs to the line. */
function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(0x0a, at)
    const stop = end === -1 ? bytes.length : end
    lines.push(bytes.subarray(at, stop))
    at = stop + 1
  }
  return lines
}
