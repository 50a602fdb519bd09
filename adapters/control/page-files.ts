import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import type { Route } from '../../daemon/ports.ts'

const FOLDER = new URL('page/', import.meta.url)
const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** What the page is made of, read once: some 60 kB. */
export interface PageFiles {
  /** By name, with places for values. */
  readonly templates: Readonly<Record<'index' | 'login', string>>
  /** Everything else, each under `/assets/`, with a tag by which a browser asks whether it has changed. */
  readonly routes: readonly Route[]
}

export async function pageFiles(): Promise<PageFiles> {
  const names = (await readdir(FOLDER)).filter((name) => TYPES[extname(name)] !== undefined)
  const [index, login] = await Promise.all(['index.html', 'login.html'].map((name) => readFile(new URL(name, FOLDER), 'utf8')))
  const routes = await Promise.all(names.map(async (name) => assetRoute(name, await readFile(new URL(name, FOLDER)))))
  return { templates: { index: index ?? '', login: login ?? '' }, routes }
}

function assetRoute(name: string, body: Buffer): Route {
  const etag = `"${createHash('sha256').update(body).digest('hex').slice(0, 24)}"`
  const contentType = TYPES[extname(name)] ?? ''
  const headers = { etag, 'cache-control': 'no-cache' }
  return {
    method: 'GET',
    path: `/assets/${name}`,
    run: (request) =>
      request.headers['if-none-match'] === etag
        ? { status: 304, headers, contentType, body: '' }
        : { status: 200, headers, contentType, body },
  }
}
