import type { Clock } from '../../daemon/clock.ts'
import type { Client } from './client.ts'

/** Lets `polite` run for at most `timeoutMs`, then cuts what is left. Never rejects. */
export async function closeWithin(timeoutMs: number, client: Client, clock: Clock, polite: () => Promise<void>): Promise<void> {
  if (timeoutMs > 0) {
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const cancel = clock.after(timeoutMs, resolve)
    // What fails here needs no word: the sockets are cut next, and the broker ends what it still holds open.
    await Promise.race([polite().catch(() => undefined), late])
    cancel()
  }
  client.sockets.cut('the life of this producer is over')
}
