/** The doctor for the page: one walk at a time, told check by check. */
import type { Check } from '../doctor/check.ts'

/** Walks while the visitor listens; undefined while another walk runs. */
export function pageDoctor(examine: () => AsyncIterable<Check>): () => AsyncIterable<string> | undefined {
  let runs = false
  const told = async function* (): AsyncGenerator<string, void, undefined> {
    // Here, since a stream that nobody takes never starts, and so never ends.
    if (runs) return
    runs = true
    try {
      for await (const check of examine()) yield `${JSON.stringify(check)}\n`
    } finally {
      runs = false
    }
  }
  return () => (runs ? undefined : told())
}
