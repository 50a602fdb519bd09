/** What Prometheus and Grafana get from us: rules that ring when they must, and no word that the gateway does not say. */
import { strict as assert } from 'node:assert'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parse, stringify } from 'yaml'
import { exposition } from '../../adapters/control/metrics.ts'
import { metricsOf } from '../../daemon/metrics.ts'
import { noPatches } from '../../daemon/patch-figures.ts'
import { snapshot } from '../fakes/snapshot.ts'

const folder = new URL('../../config/monitoring/', import.meta.url).pathname
const ALERTS = join(folder, 'prometheus-alerts.yaml')

interface Panel {
  readonly id: number
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly expr: string }[]
}
interface Dashboard {
  readonly panels: readonly Panel[]
  readonly annotations: { readonly list: readonly { readonly expr: string }[] }
}
interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string; readonly expr: string }[] }[]
}

const dashboard = JSON.parse(readFileSync(join(folder, 'grafana-dashboard.json'), 'utf8')) as Dashboard
const rules = (parse(readFileSync(ALERTS, 'utf8')) as Rules).groups.flatMap((group) => group.rules)
const queries = [...dashboard.panels.flatMap(({ targets }) => targets ?? []), ...dashboard.annotations.list].map(({ expr }) => expr)

let scratch: string
before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'monitoring-'))
})
after(() => rmSync(scratch, { recursive: true }))

describe('monitoring', () => {
  it('rings when it must, and not when it need not', () => {
    promtool('check', 'rules', ALERTS)
    promtool('test', 'rules', join(folder, 'prometheus-alerts.test.yaml'))
  })

  it('asks only for metrics and states that the gateway has', async () => {
    const text = await exposition(metricsOf({ ...snapshot({}), patches: noPatches(undefined, undefined) }))
    const told = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name))
    for (const query of [...queries, ...rules.map(({ expr }) => expr)]) {
      for (const [name] of query.matchAll(/edge_gateway_\w+/g)) assert.ok(told.has(name), `the gateway does not tell ${name}: ${query}`)
    }
    const verdicts = new Set([...text.matchAll(/^edge_gateway_verdict\{state="(\w+)"/gm)].map(([, state]) => state))
    for (const query of [...queries, ...rules.map(({ expr }) => expr)])
      for (const [, states = ''] of query.matchAll(/verdict\{[^}]*state=~?"([^"]+)"/g))
        for (const state of states.split('|')) assert.ok(verdicts.has(state), `there is no verdict ${state}: ${query}`)
  })

  it('shows a dashboard whose queries Prometheus can read', () => {
    const records = queries.map((expr, at) => ({ record: `panel:${at}`, expr: filledIn(expr) }))
    const file = join(scratch, 'queries.yaml')
    writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules: records }] }))
    promtool('check', 'rules', file)
  })

  it('has a place of its own for each panel', () => {
    const taken = new Map<string, string>()
    assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
    for (const { title, gridPos } of dashboard.panels) {
      assert.ok(gridPos.x + gridPos.w <= 24, `${title} is wider than the page`)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          assert.equal(taken.get(`${x} ${y}`), undefined, `${title} covers ${taken.get(`${x} ${y}`)}`)
          taken.set(`${x} ${y}`, title)
        }
    }
  })
})

/** As Grafana fills in its variables. */
function filledIn(expr: string): string {
  return expr.replaceAll('$box', '.*').replaceAll('$__rate_interval', '5m')
}

function promtool(...args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { encoding: 'utf8' })
  assert.equal(status, 0, `${error?.message ?? ''}\n${stdout}\n${stderr}`)
}
