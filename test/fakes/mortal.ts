/**
 * Ports of a life that can end without a word, as by `kill -9`: after that no call has an effect and no answer
 * comes back; what was on its way to the other side still arrives there.
 */
const ASYNC = new Set(['readAfter', 'advanceTo', 'epochs', 'begin', 'topicFacts', 'committed', 'transact', 'close'])

export class Mortality {
  #isAlive = true

  kill(): void {
    this.#isAlive = false
  }

  wrap<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const member = Reflect.get(target, name, target) as unknown
        if (typeof member !== 'function') return member
        return (...given: unknown[]) => this.#call(target, String(name), member as (...given: unknown[]) => unknown, given)
      },
    })
  }

  #call(target: object, name: string, member: (...given: unknown[]) => unknown, given: readonly unknown[]): unknown {
    if (!ASYNC.has(name)) return this.#isAlive || name === 'state' ? member.apply(target, [...given]) : undefined
    if (!this.#isAlive) return never()
    const answer = member.apply(target, [...given]) as Promise<unknown>
    return answer.then(
      (value) => this.#deliver(name, value),
      (error: unknown) => this.#fail(error),
    )
  }

  #deliver(name: string, value: unknown): unknown {
    if (!this.#isAlive) return never()
    return name === 'begin' ? this.wrap(value as object) : value
  }

  #fail(error: unknown): Promise<never> {
    if (!this.#isAlive) return never()
    throw error
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined)
}
