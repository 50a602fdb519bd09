/** What the daemon tells, and whether it still does. */

/** Without a word for so long, nothing that is shown counts as live. The daemon speaks once a second. */
const SILENCE_MS = 5_000
/** One that is told that too many watch hears no more until it tries again. */
const FULL_MS = 30_000
const RENEW_MS = 5_000
const POINTS_MAX = 300
const LINES_MAX = 400

export const box = {
  /** wait, live, lost, full, or rest while nobody sees the page. */
  link: 'wait',
  /** Wall ms of the last word, for people; how long ago it was, another clock tells. */
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
/** Monotonic: the visitor's clock may jump. */
let quietSince = performance.now()

/** Called with `change`, `point`, `lines`, `link` or `hello`. Returns the unsubscriber. */
export function onNews(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

/** Calls `show` now, on `hello`, on `again` and every 5 s while the daemon is heard; never while it still runs. */
export function renewing(show) {
  let [busy, due] = [false, false]
  const again = async () => {
    due = true
    if (busy) return
    busy = true
    while (due) {
      due = false
      await show()
    }
    busy = false
  }
  void again()
  const deaf = onNews((what) => what === 'hello' && void again())
  const turn = setInterval(() => box.link === 'live' && void again(), RENEW_MS)
  const close = () => {
    deaf()
    clearInterval(turn)
  }
  return { again, close }
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
    quietSince = performance.now()
    take(JSON.parse(data))
  })
}

function open() {
  source?.close()
  quietSince = performance.now()
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
  const answer = await fetch('/api/hold', { cache: 'no-store', signal: AbortSignal.timeout(SILENCE_MS) }).catch(() => undefined)
  if (answer?.status === 401) location.assign('/login')
  else setTimeout(() => source.readyState === EventSource.CLOSED && wake(), 3_000)
}

/** A browser has six connections to a box: tabs that nobody sees must leave them to the one that is seen. */
function wake() {
  if (document.hidden) {
    source?.close()
    setLink('rest')
    return
  }
  if (box.link === 'rest') setLink('wait')
  open()
}

export function live() {
  wake()
  addEventListener('visibilitychange', wake)
  setInterval(() => {
    const quiet = performance.now() - quietSince
    if (box.link === 'rest' || quiet < (box.link === 'full' ? FULL_MS : SILENCE_MS)) return
    setLink('lost')
    // A connection that hangs is no connection: after a while another one is tried.
    if (source.readyState !== EventSource.CLOSED && quiet > 3 * SILENCE_MS) open()
  }, 1_000)
}
