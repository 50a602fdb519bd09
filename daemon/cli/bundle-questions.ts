/** The documents of a support bundle: from the daemon; from its files when it is down or stuck. */
import { ControlClient, DaemonUnreachable } from '../../adapters/control/client.ts'
import type { Settings } from '../../config/settings.ts'
import { fromFiles } from './from-files.ts'

export class Questions {
  readonly #configFile: string
  readonly #client: ControlClient
  /** What the socket said: the files are asked from then on, since waiting each time for a stuck daemon takes minutes. */
  #refusal: DaemonUnreachable | undefined

  constructor(configFile: string, settings: Settings) {
    this.#configFile = configFile
    this.#client = new ControlClient(settings.control.socket)
  }

  /** Rejects with the reason when neither can answer. */
  async ask(path: string): Promise<unknown> {
    try {
      if (this.#refusal === undefined) return await this.#client.get(path)
    } catch (error) {
      if (!(error instanceof DaemonUnreachable)) throw error
      this.#refusal = error
    }
    return fromFiles(this.#configFile, path, this.#refusal)
  }

  close(): Promise<void> {
    return this.#client.close()
  }
}
