/** What the daemon tells, and whether it still does. */

/** Without a word for so long, nothing that is shown counts as live. The daemon speaks once a second. */
const SILENCE_MS = 5_000
const POINTS_MAX = 300
const LINES_MAX = 400

export const box = {
  /** wait, live, lost or full. */
  link: 'wait',
  heardAt: Date.now(),
  status: undefined,
  stepMs: 3_000,
  points: [],
  lines: [],
  leftOut: 0,
  proof: document.querySelector('meta[name=proof]').content,
}

const listeners = new Set()
let source
let version

/** Called with `change`, `point`, `lines`, `link` or `hello`. Returns the unsubscriber. */
export function onNews(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function tell(what) {
  for (const listener of [...listeners]) listener(what)
}

function setLink(link) {
  if (box.link === link) return
  box.link = link
  tell('link')
}

function hear(name, take) {
  source.addEventListener(name, ({ data }) => {
    box.heardAt = Date.now()
    take(JSON.parse(data))
  })
}

function open() {
  source?.close()
  source = new EventSource('/api/events')
  hear('hello', ({ status, stepMs, points, lines, proof }) => {
    // Another release: its page is another one.
    if (version !== undefined && version !== status.version) return location.reload()
    version = status.version
    Object.assign(box, { status, stepMs, points, lines, proof, leftOut: 0 })
    setLink('live')
    tell('hello')
  })
  hear('change', (sections) => {
    Object.assign(box.status, sections)
    setLink('live')
    tell('change')
  })
  hear('point', (point) => {
    box.points = [...box.points, point].slice(-POINTS_MAX)
    tell('point')
  })
  hear('lines', ({ lines, leftOut }) => {
    box.lines = [...box.lines, ...lines].slice(-LINES_MAX)
    box.leftOut += leftOut
    tell('lines')
  })
  hear('full', () => setLink('full'))
  hear('over', () => location.assign('/login'))
  source.addEventListener('error', () => {
    if (box.link !== 'full') setLink('lost')
    if (source.readyState === EventSource.CLOSED) void again()
  })
}

/** The browser has given up: the daemon answered, but not with a feed. */
async function again() {
  const answer = await fetch('/api/hold', { cache: 'no-store' }).catch(() => undefined)
  if (answer?.status === 401) location.assign('/login')
  else setTimeout(open, 3_000)
}

export function live() {
  open()
  setInterval(() => {
    if (Date.now() - box.heardAt < SILENCE_MS || box.link === 'full') return
    setLink('lost')
    // A connection that hangs is no connection: after a while another one is tried.
    if (source.readyState === EventSource.OPEN && Date.now() - box.heardAt > 3 * SILENCE_MS) {
      box.heardAt = Date.now() - SILENCE_MS
      open()
    }
  }, 1_000)
}
