import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorsOf } from './config-fixture.ts'

/** What is wrong, the file, and the exact lines that the user reads. */
const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  ['a key written twice', 'gateway:\n  id: a\n  id: b\n', ['config.yaml:3:3 the key id is written twice in one map; keep one']],
  [
    'a key written twice hides no other mistake',
    'gateway:\n  id: a\n  id: b\n  sites: c\n',
    ['config.yaml:3:3 the key id is written twice in one map; keep one', 'config.yaml:4:3 gateway.sites: unknown key; did you mean site?'],
  ],
  ['a tab as indentation', 'gateway:\n\tid: a\n', ['config.yaml:2:1 a tab is used for indentation; write spaces']],
  ['a list', '- gateway\n', ['config.yaml:1:1 the file must hold keys and values; write for example "gateway: { id: gw-001 }"']],
  ['a word', 'gateway', ['config.yaml:1:1 the file must hold keys and values; write for example "gateway: { id: gw-001 }"']],
  [
    'an open bracket',
    'kafka: { brokers: ["a:1"\n',
    ['config.yaml:2:1 not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]'],
  ],
  ['an open quote', 'gateway: { site: "x }\n', ['config.yaml:2:1 not valid YAML: Missing closing "quote']],
  ['two colons', 'gateway: id: a\n', ['config.yaml:1:10 not valid YAML: Nested mappings are not allowed in compact mappings']],
  [
    'indentation that fits nothing',
    'gateway:\n  id: a\n site: b\n',
    ['config.yaml:3:1 not valid YAML: All mapping items must start at the same column'],
  ],
  [
    'a reserved character',
    'gateway: { site: @x }\n',
    ['config.yaml:1:18 not valid YAML: Plain value cannot start with reserved character @'],
  ],
  [
    'two documents',
    'gateway: { id: a }\n---\ngateway: { id: b }\n',
    ['config.yaml:2:1 a second document begins here; keep one, without "---"'],
  ],
  [
    'a tag',
    'gateway: { id: !!js/function x }\n',
    ['config.yaml:1:16 tags are not supported (Unresolved tag: tag:yaml.org,2002:js/function); remove the word that begins with "!"'],
  ],
  ['an alias of nothing', 'gateway: { id: *x }\n', ['config.yaml:1:16 gateway.id: no anchor &x before this alias; write the value out']],
  [
    'an alias inside of what it names',
    'gateway: &x { labels: *x }\n',
    ['config.yaml:1:23 gateway.labels: *x stands inside of what it names; write the value out'],
  ],
  [
    'a merge key',
    'limits:\n  global: &a { burst: 1s }\n  perDevice:\n    <<: *a\n',
    ['config.yaml:4:5 limits.perDevice."<<": unknown key; merge keys are not supported; write the values out'],
  ],
  ['a list as a key', '? [a, b]\n: 1\n', ['config.yaml:1:3 a key must be plain text; quote it if it is meant']],
  ['no key', 'gateway: { : 1 }\n', ['config.yaml:1:11 gateway: a key must be plain text; quote it if it is meant']],
  [
    'a key that would reach a prototype',
    'gateway: { __proto__: 1 }\n',
    ['config.yaml:1:12 gateway: the key __proto__ is not allowed; remove it'],
  ],
  [
    'infinity',
    'ledger: { maxDevices: .inf }\n',
    ['config.yaml:1:23 ledger.maxDevices: .inf is no number that can be used here; write a plain decimal number'],
  ],
  [
    'nesting without end',
    'a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]',
    [
      'config.yaml:1:1 a: unknown key; known here: gateway, mqtt, limits, buffer, ledger, presence, kafka, etcd, patches, metrics, page, control, log, shutdown',
      'config.yaml:1:36 a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested more than 32 levels deep; write it flatter',
    ],
  ],
  [
    'variables that are not set',
    'gateway:\n  id: ${NOPE}\n  site: "${NOPE}"\n',
    [
      'config.yaml:2:7 gateway.id: the environment variable NOPE is not set; set it (systemd: Environment=NOPE=…), or write ${NOPE:-default}',
      'config.yaml:3:9 gateway.site: the environment variable NOPE is not set; set it (systemd: Environment=NOPE=…), or write ${NOPE:-default}',
    ],
  ],
  [
    'a reference without quotes in braces',
    'gateway: { id: ${NOPE} }\n',
    ['config.yaml:1:17 inside { } or [ ] a reference needs quotes; write for example { id: "${NAME}" }'],
  ],
  [
    'a reference to no name',
    'gateway: { id: "${1X}" }\n',
    ['config.yaml:1:16 gateway.id: cannot read this ${…}; write ${NAME} or ${NAME:-default}, or $${ for the two characters ${'],
  ],
  [
    'an open reference',
    'gateway: { id: "${X" }\n',
    ['config.yaml:1:16 gateway.id: cannot read this ${…}; write ${NAME} or ${NAME:-default}, or $${ for the two characters ${'],
  ],
]

for (const [name, text, lines] of CASES) {
  test(`not readable as YAML: ${name}`, () => {
    assert.deepEqual(errorsOf(text), lines)
  })
}
