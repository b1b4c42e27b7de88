// In a real browser: a page of another origin, whose network and life are played with.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { launch, skip } from "./browser.js"
import { gateway } from "./setup.js"
import { serve, until } from "./server.js"

let chrome
before(async () => {
  if (!skip) chrome = await launch()
})
after(() => chrome?.close())

/** Opens a page with a stream. */
async function openPage(t, url, options = {}) {
  const { page, context } = await chrome.open(t)
  await follow(page, url, options)
  const got = () => page.evaluate(() => globalThis.got)
  return { page, context, got, cdp: await context.newCDPSession(page) }
}

/** Opens a stream in a page, and has what it says noted in the page's `got`. */
function follow(page, url, options) {
  return page.evaluate(
    async ([url, options]) => {
      const { EventStream, localStorageCursor } = await import("/index.js")
      const got = (globalThis.got = { ids: [], states: [], gaps: [], errors: [], tokens: [], closed: null })
      if (options.key) options.cursor = localStorageCursor(options.key)
      const stream = (globalThis.stream = new EventStream(url, {
        backoff: { min: 50, max: 500 },
        token: ({ reason }) => "t" + got.tokens.push(reason),
        ...options,
      }))
      stream.on("event", (e) => void got.ids.push(e.id))
      stream.on("state", ({ state, transport }) => void got.states.push(transport ? `${state} ${transport}` : state))
      stream.on("gap", (g) => void got.gaps.push(g.reason))
      stream.on("error", (e) => void got.errors.push(e.code))
      stream.on("close", ({ error }) => (got.closed = error ? String(error.code) : "closed"))
    },
    [url, options],
  )
}

const ids = (from, to) => Array.from({ length: to - from }, (_, i) => `0-${from + i}`)

/** A gateway that sends events 0 to its `end`, after the cursor and what was seen, and more as `end` grows. */
function feeding(state) {
  return async (a) => {
    if (state.refuse?.(a)) return a.refuse(401)
    await a.accept({ hello: { cursor: a.query.cursor ?? "c-1" } })
    let [, last] = /0-(\d+)/.exec(a.query.seen ?? "") ?? [, a.query.cursor?.slice(1) ?? "-1"]
    while (!a.over) {
      if (last < state.end - 1) a.events([`0-${++last}`], last % 3 === 2 ? `c${last}` : undefined)
      else await new Promise((r) => setTimeout(r, 20))
    }
  }
}

for (const transport of ["websocket", "sse"]) {
  test(`${transport}: a gateway is killed and comes back`, { skip }, async (t) => {
    const state = { end: 10 }
    const first = await serve(feeding(state))
    const { got } = await openPage(t, first.url, { transport })
    await until(async () => (await got()).ids.length === 10)
    await first.close()
    await until(async () => (await got()).states.includes("waiting"))
    state.end = 20
    const g = await gateway(feeding(state), first.port)
    await until(async () => (await got()).ids.length >= 20)
    assert.deepEqual((await got()).ids, ids(0, 20))
    assert.ok(g.attempts[0].req.headers.origin === chrome.origin && g.attempts[0].token)
  })

  test(`${transport}: offline and back`, { skip }, async (t) => {
    const state = { end: 10 }
    const g = await gateway(feeding(state))
    const { context, got } = await openPage(t, g.url, { transport })
    await until(async () => (await got()).ids.length === 10)
    await context.setOffline(true)
    state.end = 20
    g.attempts[0].drop() // the gateway sees the end first
    await until(async () => (await got()).states.includes("waiting"))
    await context.setOffline(false)
    await until(async () => (await got()).ids.length >= 20)
    assert.deepEqual((await got()).ids, ids(0, 20))
  })
}

// Page.setWebLifecycleState has no effect on a page that is visible, and without a screen all are.
test("supabase-js#2613: a page is stopped for longer than its token lives", { skip }, async (t) => {
  const state = { end: 10 }
  const g = await gateway(feeding(state))
  const { cdp, got } = await openPage(t, g.url)
  await until(async () => (await got()).ids.length === 10)
  await cdp.send("Debugger.enable")
  await cdp.send("Debugger.pause")
  state.refuse = (a) => a.token === "t1"
  g.attempts[0].close(4004, "the token has expired; connect with a new one")
  state.end = 20
  await new Promise((r) => setTimeout(r, 1000))
  assert.equal(g.attempts.length, 1) // none of its code runs
  await cdp.send("Debugger.resume")
  await until(async () => (await got()).ids.length >= 20)
  const { ids: all, tokens, closed } = await got()
  assert.deepEqual(all, ids(0, 20))
  assert.deepEqual(tokens, ["connect", "refused"])
  assert.equal(closed, null)
  assert.equal(g.attempts.length, 2)
})

test("WebSockets are blocked on the way: server-sent events, with the token in a header", { skip }, async (t) => {
  const feed = feeding({ end: 5 })
  const g = await gateway((a) => (a.kind === "ws" ? a.raw.socket.destroy() : feed(a)))
  const { got } = await openPage(t, g.url)
  await until(async () => (await got()).ids.length === 5)
  assert.deepEqual((await got()).states.slice(-1), ["live sse"])
  assert.equal(g.attempts.at(-1).token, "t3")
})

test("a page that is loaded again goes on where it was, with nothing twice", { skip }, async (t) => {
  const state = { end: 5 }
  const g = await gateway(feeding(state))
  const { page, got } = await openPage(t, g.url, { key: "place" })
  await until(async () => (await got()).ids.length === 5)
  await page.reload()
  const kept = await page.evaluate(() => localStorage.getItem("place"))
  assert.equal(kept, "c2 0-4")
  state.end = 10
  await follow(page, g.url, { key: "place" })
  await until(async () => (await got()).ids.length === 5)
  assert.deepEqual((await got()).ids, ids(5, 10))
})

test("close() leaves no socket behind, while it connects and after", { skip }, async (t) => {
  const g = await gateway((a) => void a.raw.socket.resume())
  for (const transport of ["websocket", "sse"]) {
    const n = g.attempts.length
    const { page } = await openPage(t, g.url, { transport })
    await until(() => g.attempts.length > n)
    await page.evaluate(() => stream.close())
    await until(() => g.attempts[n].raw.socket?.destroyed ?? g.attempts[n].req.socket.destroyed)
  }
})
