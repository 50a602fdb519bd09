import { table } from '../../daemon/cli/text.ts'
import type { Fleet } from '../fleet/fleet.ts'
import type { GatewayProgram } from '../fleet/gateway.ts'

export interface DemoResult {
  readonly published: number
  readonly acknowledged: number
  readonly inKafka: number
  readonly shed: Readonly<Record<string, number>>
  readonly lost: number
  readonly duplicates: number
  readonly outOfOrder: number
  readonly seconds: number
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

  async show(gateway: GatewayProgram, fleet: Fleet): Promise<void> {
    const line = await gateway.status().then(
      (status) => {
        const buffered = Object.values(status.lanes).reduce((sum, lane) => sum + lane.messages, 0)
        return `${status.verdict.state.toUpperCase()} in ${status.rates.inPerSecond}/s out ${status.rates.outPerSecond}/s shed ${status.rates.shedPerSecond}/s buffered ${buffered}`
      },
      () => 'the gateway does not answer',
    )
    process.stderr.write(`   published ${fleet.published.size} acknowledged ${fleet.acknowledged} waiting ${fleet.pending} | ${line}\n`)
  }

  result(result: DemoResult): void {
    if (this.#json) {
      console.log(JSON.stringify(result))
      return
    }
    const shed = Object.entries(result.shed).map(([reason, count]) => [`shed: ${reason}`, count] as const)
    const { published, acknowledged, inKafka, lost, duplicates, outOfOrder, seconds } = result
    console.log(
      table(
        ['what', 'messages'],
        [...Object.entries({ published, acknowledged, inKafka }), ...shed, ...Object.entries({ lost, duplicates, outOfOrder })],
      ),
    )
    console.log(`in ${seconds} s`)
  }
}
