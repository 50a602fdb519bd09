import type { StoredDeadLetter } from '../daemon/ports.ts'
import { decodeGroup } from './frames.ts'
import type { WireLetter } from './protocol.ts'

export function storedLetter(letter: WireLetter): StoredDeadLetter {
  const [message] = decodeGroup(letter.frame, 0, 1)
  if (message === undefined || !('envelope' in message)) throw new Error(`dead letter ${letter.id} holds no envelope`)
  const { id, epoch, lane, position, atMs, reason } = letter
  return { id, epoch, lane, position, atMs, reason, envelope: message.envelope }
}
