/** The direction of imports, as ARCHITECTURE.md states it. */
const own = '^(daemon|adapters|store|config|test)/'
const driver = (name, home) => ({
  name: `${name.replaceAll(/[^a-z0-9]/g, '-')}-has-one-home`,
  comment: `${name} is imported only from ${home}`,
  severity: 'error',
  from: { path: '^(daemon|adapters|store|config)/', pathNot: `^${home}` },
  to: { path: `node_modules/${name}/` },
})

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'nothing-imports-tests', severity: 'error', from: { pathNot: '^test/' }, to: { path: '^test/' } },
    { name: 'config-is-a-leaf', severity: 'error', from: { path: '^config/' }, to: { path: own, pathNot: '^config/' } },
    {
      name: 'flows-see-ports-only',
      comment: 'ingest, relay and patch import no package, no Node IO, no adapter',
      severity: 'error',
      from: { path: '^daemon/(ingest|relay|patch)/' },
      to: { pathNot: ['^daemon/(ports|clock|errors|component)\\.ts$', '^daemon/(ingest|relay|patch)/', '^(node:)?(buffer|crypto)$'] },
    },
    {
      name: 'flows-do-not-see-each-other',
      severity: 'error',
      from: { path: '^daemon/(ingest|relay|patch)/' },
      to: { path: '^daemon/(ingest|relay|patch)/', pathNot: '^daemon/$1/' },
    },
    {
      name: 'adapters-and-store-see-ports-only',
      severity: 'error',
      from: { path: '^(adapters|store)/' },
      to: {
        path: '^(daemon|config)/',
        pathNot: '^daemon/(ports|clock|errors|component|health|metrics|doctor/facts|patch/(ports|kinds|document|memory|signing))\\.ts$',
      },
    },
    {
      name: 'adapters-do-not-see-each-other',
      severity: 'error',
      from: { path: '^adapters/([^/]+)/' },
      to: { path: '^(adapters|store)/', pathNot: '^adapters/$1/' },
    },
    { name: 'store-sees-no-adapter', severity: 'error', from: { path: '^store/' }, to: { path: '^adapters/' } },
    {
      name: 'only-the-wiring-sees-adapters',
      severity: 'error',
      from: { path: '^daemon/', pathNot: '^daemon/((compose|main)\\.ts$|compose/|cli/)' },
      to: { path: '^(adapters|store)/' },
    },
    driver('better-sqlite3', 'store/'),
    driver('kafkajs', 'adapters/kafka/'),
    driver('aedes', 'adapters/mqtt/'),
    driver('mqtt', 'adapters/mqtt/'),
    driver('mqtt-packet', 'adapters/mqtt/'),
    driver('etcd3', 'adapters/etcd/'),
    driver('undici', 'adapters/(http|control)/'),
    driver('prom-client', 'adapters/control/'),
    driver('tar-stream', 'adapters/host/'),
    driver('croner', '(adapters/host|config/patch)/'),
    driver('koffi', 'adapters/systemd/'),
    driver('zod', 'config/'),
    driver('yaml', 'config/'),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default'] },
  },
}
