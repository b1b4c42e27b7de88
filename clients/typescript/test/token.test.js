// Tokens: one before each attempt, the next one before this one ends.
import assert from "node:assert/strict"
import { test } from "node:test"
import { gateway, open } from "./setup.js"
import { until } from "./server.js"
import { page } from "./page.js"

/** A token function that counts, and notes why it was asked. */
function tokens() {
  const reasons = []
  const token = ({ reason, signal }) => {
    assert.ok(signal instanceof AbortSignal)
    return "t" + reasons.push(reason)
  }
  return { token, reasons }
}

const soon = (ms) => (Date.now() + ms) / 1000

test("supabase-js#2613: a token that ended while the tab slept is not used again, whatever wakes the stream", async (t) => {
  for (const wake of ["online", "visibilitychange", "pageshow", "resume", "timer"]) {
    const p = page(t)
    const { token, reasons } = tokens()
    const g = await gateway(async (a, n) => {
      if (a.token !== "t" + (n + 1)) return a.refuse(401)
      await a.accept()
    })
    const { stream, got } = open(g, { token, backoff: wake === "timer" ? { min: 1, max: 1 } : { min: 20_000, max: 20_000 }, transport: "websocket" })
    await stream.ready()
    t.mock.method(Math, "random", () => 0.999)
    g.attempts[0].close(4004, "the token has expired; connect with a new one")
    if (wake !== "timer") {
      await until(() => stream.state === "waiting")
      p.fire(wake, -20_000)
    }
    await until(() => g.attempts.length === 2 && stream.state === "live")
    assert.deepEqual(reasons, ["connect", "refused"], wake)
    assert.deepEqual(got.closed, [])
    await stream.close()
    p.restore()
    t.mock.restoreAll()
  }
})

test("the next token goes over the open connection, before this one ends", async () => {
  const { token, reasons } = tokens()
  const g = await gateway(async (a) => {
    await a.accept()
    a.ws.on("message", () => a.send({ type: "token", expires: soon(3600_000) }))
    a.send({ type: "token", expires: soon(4000) })
  })
  const { stream } = open(g, { token })
  await until(() => g.attempts[0]?.messages.length)
  assert.deepEqual(g.attempts[0].messages, [{ type: "token", token: "t2" }])
  assert.deepEqual(reasons, ["connect", "expiring"])
  assert.equal(stream.state, "live")
})

test("an expiry in a hundred years is no tight loop of timers", async () => {
  const { token, reasons } = tokens()
  const g = await gateway(async (a) => {
    await a.accept()
    a.send({ type: "token", expires: soon(100 * 365 * 86400e3) })
  })
  const { stream } = open(g, { token })
  await stream.ready()
  await new Promise((r) => setTimeout(r, 100))
  assert.deepEqual(reasons, ["connect"])
})

test("401: another token is asked for once, and then it is over", async () => {
  const { token, reasons } = tokens()
  const g = await gateway((a) => a.refuse(401, {}, "the token is rejected"))
  const { got } = open(g, { token, transport: "sse" })
  await until(() => got.closed.length)
  assert.deepEqual(reasons, ["connect", "refused"])
  assert.equal(got.closed[0].error.name, "AuthError")
  assert.match(got.closed[0].error.message, /the token is rejected/)
})

for (const transport of ["websocket", "sse", "auto"])
  test(`${transport}: a token that expires again and again is replaced each time`, async () => {
    const { token, reasons } = tokens()
    const g = await gateway(async (a) => {
      if (transport === "auto" && a.kind === "ws") return a.raw.socket.destroy() // WebSockets are blocked
      await a.accept()
    })
    const { stream, got } = open(g, { token, transport })
    const first = transport === "auto" ? 3 : 1
    for (let n = first; n < first + 3; n++) {
      await until(() => got.closed.length || (g.attempts.length === n && stream.state === "live"))
      assert.deepEqual(got.closed, [])
      g.attempts[n - 1].close(4004, "the token has expired; connect with a new one")
    }
    await until(() => got.closed.length || (g.attempts.length === first + 3 && stream.state === "live"))
    assert.deepEqual(got.closed, [])
    assert.deepEqual(reasons, ["connect", ...Array(first + 2).fill("refused")])
  })

test("401 behind a WebSocket, where a browser can't see it, is found out by a stream", async () => {
  const { token, reasons } = tokens()
  const g = await gateway((a) => a.refuse(401))
  const { got } = open(g, { token })
  await until(() => got.closed.length)
  assert.equal(got.closed[0].error.code, 401)
  assert.deepEqual(reasons, ["connect", "refused", "refused"])
})

test("a token function that hangs is given up, told so, and asked again", async () => {
  const g = await gateway((a) => a.accept())
  const signals = []
  const { stream, got } = open(g, {
    timeout: 100,
    token: ({ signal }) => (signals.push(signal) === 1 ? new Promise(() => {}) : "t"),
  })
  await stream.ready()
  assert.ok(signals[0].aborted && !signals[1].aborted)
  assert.equal(got.errors[0].code, "token")
})

test("close() while a token is fetched connects nowhere", async () => {
  const g = await gateway((a) => a.accept())
  let give
  const { stream } = open(g, { token: () => new Promise((r) => (give = r)) })
  await until(() => give)
  const closed = stream.close()
  give("t")
  await closed
  await new Promise((r) => setTimeout(r, 50))
  assert.equal(g.attempts.length, 0)
})
