import type { Stored } from '../daemon/ports.ts'
import { decodeGroup } from './frames.ts'
import type { ReadAnswer } from './protocol.ts'

/** What the worker read, decoded. Payloads are views of the answer's buffers. */
export function storedMessages(answer: ReadAnswer): Stored[] {
  const { epoch } = answer
  return answer.slices.flatMap((slice) =>
    decodeGroup(slice.frames, slice.from, slice.to).map((message, index) => ({
      epoch,
      position: slice.first + slice.from + index,
      ...message,
    })),
  )
}
