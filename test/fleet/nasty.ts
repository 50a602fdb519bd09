/** Payloads and log lines that break careless programs. The same seed gives the same bytes. */
import { Dice } from '../chaos/dice.ts'

function noise(dice: Dice, bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, () => Math.floor(dice.unit() * 256)))
}

/** One of each kind; 120 KB together. */
export function nastyPayloads(seed: number): Buffer[] {
  const dice = new Dice(seed)
  return [
    Buffer.alloc(0),
    Buffer.from([0]),
    Buffer.from('\r\n'),
    Buffer.from('two\nlines\r\nand a half\r'),
    Buffer.from('\ufeffbyte order mark'),
    Buffer.from([0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80, 0xf5]),
    Buffer.from('{"level":"error","id":"\\u0000","n":1e999}'),
    Buffer.from('a,b=c\td\\e"f\'g'),
    noise(dice, 4_097),
    Buffer.alloc(100_000, 'a very long line '),
    Buffer.from(`${'['.repeat(5_000)}${']'.repeat(5_000)}`),
  ]
}

/** Lines of a log as devices write them when nobody looks: without their line feed, with what else was there. */
export function nastyLog(seed: number, lines: number): Buffer[] {
  const dice = new Dice(seed)
  return Array.from({ length: lines }, (_, index) => {
    const head = `<${Math.floor(dice.unit() * 200)}>Nov 24 12:00:${String(index % 60).padStart(2, '0')} plc[${index}]: `
    const tail = dice.pick([
      Buffer.from('\r'),
      Buffer.alloc(0),
      noise(dice, 40),
      Buffer.from('\u001b[31mred\u001b[0m'),
      Buffer.from('\0\0'),
      Buffer.alloc(3_000, '='),
    ])
    return dice.unit() < 0.1 ? tail : Buffer.concat([Buffer.from(head), tail])
  })
}
