/** Which devices are there, and who wants to know of the next. */
export class OnlineDevices {
  /** Connections of each: one device may have several. */
  readonly #connections = new Map<string, number>()
  readonly #listeners = new Set<(device: string) => void>()

  list(): readonly string[] {
    return [...this.#connections.keys()]
  }

  connectionsOf(device: string): number {
    return this.#connections.get(device) ?? 0
  }

  onOnline(listener: (device: string) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  came(device: string): void {
    this.#connections.set(device, (this.#connections.get(device) ?? 0) + 1)
    for (const listener of this.#listeners) listener(device)
  }

  left(device: string): void {
    const others = (this.#connections.get(device) ?? 0) - 1
    if (others > 0) this.#connections.set(device, others)
    else this.#connections.delete(device)
  }
}
