/** Documents and controls out of etcd, each verified once for each revision. */
import { readSpec } from '../admit.ts'
import type { Trusted } from '../admit.ts'
import { controlOf } from '../control.ts'
import type { ControlView } from '../control.ts'
import type { Patch } from '../document.ts'
import type { KeyValue } from '../ports.ts'
import type { Documents, Envelopes, KeyScope } from '../signing.ts'
import type { PatchReader } from './needs.ts'

const KEPT_MAX = 1_000

export class TrustingReader implements PatchReader {
  readonly #envelopes: Envelopes
  readonly #documents: Documents
  readonly #scopes: ReadonlyMap<string, KeyScope>
  /** By key and mod revision. */
  readonly #specs = new Map<string, Trusted | { readonly refused: string }>()
  readonly #slowedAt = new Map<string, number>()

  constructor(envelopes: Envelopes, documents: Documents, scopes: ReadonlyMap<string, KeyScope>) {
    this.#envelopes = envelopes
    this.#documents = documents
    this.#scopes = scopes
  }

  spec(entry: KeyValue): Trusted | { readonly refused: string } {
    const name = `${entry.key} ${entry.modRevision}`
    const read = this.#specs.get(name) ?? readSpec(entry, this.#envelopes, this.#documents)
    if (this.#specs.size >= KEPT_MAX) this.#specs.clear()
    this.#specs.set(name, read)
    return read
  }

  control(entry: KeyValue | undefined, patch: Patch): ControlView {
    const slowedAt = this.#slowedAt.get(patch.id) ?? 0
    const view = controlOf(entry, { patch, envelopes: this.#envelopes, scopes: this.#scopes, slowedAt })
    this.#slowedAt.set(patch.id, view.slowedAt)
    return view
  }

  stored(payload: Uint8Array): Patch | undefined {
    const read = this.#documents.read(payload)
    return 'refused' in read ? undefined : read
  }

  scopes(): ReadonlyMap<string, KeyScope> {
    return this.#scopes
  }

  forget(): void {
    this.#specs.clear()
    this.#slowedAt.clear()
  }
}
