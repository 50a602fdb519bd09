import { table } from '../../daemon/cli/text.ts'
import type { Served } from './account.ts'

export interface LogResult {
  readonly published: number
  readonly acknowledged: number
  readonly inKafka: number
  readonly shed: Readonly<Record<string, number>>
  readonly lost: number
  readonly duplicates: number
  readonly outOfOrder: number
  readonly seconds: number
}

export interface PatchResult {
  readonly good: { readonly applied: number; readonly state: string }
  readonly late: { readonly applied: boolean }
  readonly bad: { readonly started: number; readonly rolledBack: number; readonly state: string }
}

/** Live figures for a person on stderr; the result on stdout, as a table or as one JSON line. */
export class Screen {
  readonly #json: boolean

  constructor(json: boolean) {
    this.#json = json
  }

  say(text: string): void {
    process.stderr.write(`\n== ${text}\n`)
  }

  line(text: string): void {
    process.stderr.write(`   ${text}\n`)
  }

  async show(served: readonly Served[]): Promise<void> {
    const sum = (of: (one: Served) => number): number => served.reduce((total, one) => total + of(one), 0)
    const lines = await Promise.all(served.map(lineOf))
    this.line(
      `published ${sum(({ fleet }) => fleet.published.size)} acknowledged ${sum(({ fleet }) => fleet.acknowledged)} waiting ${sum(({ fleet }) => fleet.pending)} | ${lines.join(' | ')}`,
    )
  }

  result(result: LogResult & Partial<PatchResult>): void {
    if (this.#json) {
      console.log(JSON.stringify(result))
      return
    }
    const shed = Object.entries(result.shed).map(([reason, count]) => [`shed: ${reason}`, count] as const)
    const { published, acknowledged, inKafka, lost, duplicates, outOfOrder, seconds, good, late, bad } = result
    console.log(
      table(
        ['what', 'messages'],
        [...Object.entries({ published, acknowledged, inKafka }), ...shed, ...Object.entries({ lost, duplicates, outOfOrder })],
      ),
    )
    if (good !== undefined) console.log(`the good patch: applied by ${good.applied} gateways, ${good.state}`)
    if (late !== undefined) console.log(`the gateway that came late: ${late.applied ? 'applied it as well' : 'did NOT apply it'}`)
    if (bad !== undefined) console.log(`the bad patch: begun by ${bad.started}, taken back by ${bad.rolledBack}, ${bad.state}`)
    console.log(`in ${seconds} s`)
  }
}

async function lineOf({ gateway }: Served): Promise<string> {
  return gateway.status().then(
    (status) => {
      const buffered = Object.values(status.lanes).reduce((sum, lane) => sum + lane.messages, 0)
      const { inPerSecond, outPerSecond, shedPerSecond } = status.rates
      return `${status.verdict.state.toUpperCase()} in ${inPerSecond}/s out ${outPerSecond}/s shed ${shedPerSecond}/s buffered ${buffered}`
    },
    () => 'the gateway does not answer',
  )
}
