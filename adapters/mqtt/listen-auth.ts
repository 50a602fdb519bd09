import type { Clock } from '../../daemon/clock.ts'
import type { Log, PasswordsTaken } from '../../daemon/ports.ts'
import { parseAclFile, type AccessList, type AclSubject } from './acl.ts'
import type { InboundDevice, PublishGrant } from './listen-inbound.ts'
import type { ListenAuth } from './listen-settings.ts'
import { parsePasswordFile, PasswordVerifier, type PasswordFile } from './passwords.ts'
import { WatchedFiles } from './tls-files.ts'

export interface Claim {
  readonly clientId: string
  readonly username: string | undefined
  readonly password: Buffer | undefined
  readonly commonName: string | undefined
}

/** CONNACK return codes (3.1.1 table 3.1). */
export const ReturnCode = { IDENTIFIER_REJECTED: 2, SERVER_UNAVAILABLE: 3, BAD_CREDENTIALS: 4, NOT_AUTHORISED: 5 } as const

export interface Proven {
  readonly identity: string | undefined
  /** The password hash that matched. */
  readonly credential: string | undefined
}
export type Proof = Proven | { readonly returnCode: 4 | 5; readonly detail: string }

/** Who may connect, and as whom. Its files are read again when they change. */
export class Authenticator {
  /** Raised at each change of the access list. */
  accessVersion = 0
  readonly #auth: ListenAuth | undefined
  readonly #verifier: PasswordVerifier
  readonly #passwords: WatchedFiles<PasswordFile> | undefined
  readonly #access: WatchedFiles<AccessList> | undefined

  constructor(listener: string, auth: 'none' | ListenAuth, clock: Clock, log: Log) {
    this.#auth = auth === 'none' ? undefined : auth
    this.#verifier = new PasswordVerifier(() => clock.monotonicMs())
    const watch = <T>(role: string, path: string | undefined, parse: (content: Buffer) => T): WatchedFiles<T> | undefined =>
      path === undefined
        ? undefined
        : new WatchedFiles({
            what: `the ${role} of listener ${listener}`,
            paths: [path],
            clock,
            log,
            read: ([content]) => parse(content ?? Buffer.alloc(0)),
          })
    this.#passwords = watch('password file', this.#auth?.passwordFile, parsePasswordFile)
    this.#access = watch('access list', this.#auth?.aclFile, parseAclFile)
  }

  /** Rejects with `fatal` when a file can't be used. `changed` is called after the password file has changed. */
  async load(changed: () => void): Promise<void> {
    await Promise.all([this.#passwords?.load(), this.#access?.load()])
    this.#passwords?.onChange(changed)
    this.#access?.onChange(() => this.accessVersion++)
  }

  /** Looks at the password file now. `undefined` without one. `cut`: how many were cut off up to now. */
  async rereadPasswords(cut: () => number): Promise<PasswordsTaken | undefined> {
    if (this.#passwords === undefined || this.#auth?.passwordFile === undefined) return undefined
    const before = cut()
    const fault = await this.#passwords.refresh()
    return {
      file: this.#auth.passwordFile,
      users: this.#passwords.value.size,
      cut: cut() - before,
      ...(fault === undefined ? {} : { fault }),
    }
  }

  close(): void {
    this.#passwords?.close()
    this.#access?.close()
  }

  async prove(claim: Claim): Promise<Proof> {
    if (this.#auth === undefined) return { identity: undefined, credential: undefined }
    const { clientId, username, password, commonName } = claim
    let credential: string | undefined
    if (this.#passwords !== undefined) {
      if (username === undefined || password === undefined) return { returnCode: 4, detail: 'it gave no user name and password' }
      const hash = await this.#verifier.verify(this.#passwords.value, username, password)
      if (hash === undefined) return { returnCode: 4, detail: `wrong password, or no user ${JSON.stringify(username.slice(0, 64))}` }
      // The file may have changed while the hash was made: nobody comes in by what is not in it any more.
      if (this.#passwords.value.get(username)?.text !== hash.text)
        return { returnCode: 4, detail: 'its password was just changed or removed' }
      credential = hash.text
    }
    const identity = { username, clientId, commonName }[this.#auth.deviceFrom]
    if (identity === undefined || identity === '') return { returnCode: 5, detail: `it has no ${this.#auth.deviceFrom} to be known by` }
    return { identity, credential }
  }

  /** False when the password that let this user in is not in the file any more. */
  stillValid(username: string | undefined, credential: string | undefined): boolean {
    if (credential === undefined || this.#passwords === undefined) return true
    return this.#passwords.value.get(username ?? '')?.text === credential
  }

  publishGrant(device: InboundDevice, topic: string): PublishGrant {
    if (this.#access === undefined) return 'own'
    const subject = this.#subjectOf(device)
    if (!this.#access.value.mayPublish(subject, topic)) return 'none'
    return this.#access.value.mayPublishForOthers(subject, topic) ? 'any' : 'own'
  }

  /** `undefined` without an access list. */
  maySubscribe(device: InboundDevice, filter: string): boolean | undefined {
    return this.#access?.value.maySubscribe(this.#subjectOf(device), filter)
  }

  /** Without a password file nobody has checked the user name of a CONNECT: anybody could call himself admin. */
  #subjectOf({ username, identity, clientId }: InboundDevice): AclSubject {
    const proven = this.#passwords === undefined ? undefined : username
    return { username: proven ?? identity ?? '', clientId }
  }
}
