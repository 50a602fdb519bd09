/** The page as a part of the daemon. What it is made of is loaded only where it is wanted. */
import type { SystemLog } from '../../adapters/host/log.ts'
import type { HostPort, PageSettings, Settings } from '../../config/settings.ts'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import type { Route } from '../ports.ts'
import type { StatusDocument } from '../status.ts'
import type { PageServer } from './page-server.ts'

export interface PageSources {
  readonly gateway: string
  readonly configFile: string
  readonly clock: Clock
  readonly log: SystemLog
  readonly status: () => StatusDocument
  /** Known when the daemon starts, not before. */
  readonly control: () => readonly Route[]
  /** Tells the events topic. */
  readonly report: (type: string, document: object) => void
}

export type PageWanted = PageSettings & { readonly listen: HostPort }

export class Page implements Component {
  readonly name = 'page'
  readonly #wanted: PageWanted
  readonly #sources: PageSources
  #server: PageServer | undefined

  constructor(wanted: PageWanted, sources: PageSources) {
    this.#wanted = wanted
    this.#sources = sources
  }

  /** Rejects with `fatal` when the port is taken, or a file can't be used. */
  async start(): Promise<void> {
    const { PageServer } = await import('./page-server.ts')
    const server = new PageServer(this.#wanted, this.#sources)
    await server.start()
    this.#server = server
  }

  async stop(): Promise<void> {
    await this.#server?.stop()
  }
}

/** Undefined: no page. */
export function pageOf({ page }: Settings): PageWanted | undefined {
  return page.listen === undefined ? undefined : { ...page, listen: page.listen }
}
