import type { Route } from '../ports.ts'
import type { Sources } from './sources.ts'

/** `edgectl device …` has replaced the password file of this listener: it is looked at now. */
export function passwordRoute(sources: Pick<Sources, 'rereadPasswords'>): Route {
  return {
    method: 'POST',
    path: '/listeners/:name/passwords',
    run: async ({ params }) => {
      const name = decodeURIComponent(params['name'] ?? '')
      const taken = await sources.rereadPasswords(name)
      if (taken === undefined) return { status: 404, body: { error: `the running daemon has no listener ${name} with a password file` } }
      return { status: 200, body: { schema: 1, listener: name, ...taken } }
    },
  }
}
