/** Changes that belong together: all of them, or none. */
import { GatewayError, messageOf } from '../errors.ts'
import type { Log } from '../ports.ts'

/** What a change that was made can do next. */
export interface Taken {
  /** Back to what was before. */
  undo(): Promise<void> | void
  /** Nothing goes back from here on: let go of what was kept for `undo`. Never rejects. */
  finish?(): Promise<void> | void
}

export interface Step {
  /** The part of the daemon, for the log. */
  readonly part: string
  /** Rejects or throws when the part can't be changed; it is then as it was. */
  change(): Promise<Taken> | Taken
}

/**
 * Makes the changes in order. When one fails, those before it go back in reverse, and the reason is thrown. An
 * `Astray` is thrown when a part can't go back either.
 */
export async function allOrNothing(steps: readonly Step[], log: Log): Promise<void> {
  const taken: { readonly part: string; readonly taken: Taken }[] = []
  for (const step of steps) {
    const { part } = step
    try {
      taken.push({ part, taken: await step.change() })
    } catch (error) {
      log.warn({ part, err: messageOf(error) }, 'a part refuses its change; what was changed goes back')
      if (error instanceof Astray) throw error
      for (const made of taken.reverse()) await back(made.part, made.taken, error)
      throw error
    }
  }
  for (const { taken: made } of taken) await made.finish?.()
}

/** No part knows any more in what state it is: only a restart builds it anew. */
export class Astray extends GatewayError {
  constructor(part: string, cause: unknown, error: unknown) {
    super('fatal', `${part} can not go back to the configuration before (${messageOf(error)}) after: ${messageOf(cause)}`, {
      cause: error,
      remedy: 'the daemon starts anew with the configuration that is in force',
    })
    this.name = 'Astray'
  }
}

/** Goes back after `cause`; throws an `Astray` when that fails. */
export async function back(part: string, taken: Pick<Taken, 'undo'>, cause: unknown): Promise<void> {
  try {
    await taken.undo()
  } catch (error) {
    throw error instanceof Astray ? error : new Astray(part, cause, error)
  }
}
