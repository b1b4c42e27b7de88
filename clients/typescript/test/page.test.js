// What a page's life does to a stream.
import assert from "node:assert/strict"
import { test } from "node:test"
import { gateway, open } from "./setup.js"
import { until } from "./server.js"
import { page } from "./page.js"

for (const wake of ["online", "visibilitychange", "pageshow", "resume"]) {
  test(`${wake} shortens a pause`, async (t) => {
    const p = page(t)
    let share = 0
    t.mock.method(Math, "random", () => share)
    const g = await gateway((a, n) => {
      if (n === 9) share = 0.999 // of 50 * 2^9 ms
      return n < 10 ? a.refuse(503) : a.accept()
    })
    const { stream } = open(g, { transport: "sse", backoff: { min: 50, max: 1e6 } })
    await until(() => g.attempts.length === 10 && stream.state === "waiting")
    const began = Date.now()
    p.fire(wake)
    await stream.ready()
    assert.ok(Date.now() - began < 20_000)
  })

  test(`${wake} does not go before what the server asked for, however often it comes`, async (t) => {
    const p = page(t)
    const g = await gateway((a, n) => (n === 0 ? a.refuse(503, { "Retry-After": "1" }) : a.accept()))
    const { stream } = open(g, { transport: "sse", backoff: { min: 100, max: 100 } })
    await until(() => stream.state === "waiting")
    for (let i = 0; i < 20; i++) p.fire(wake)
    await stream.ready()
    const pause = g.attempts[1].at - g.attempts[0].at
    assert.ok(pause >= 1000, `${pause} ms`)
    assert.equal(g.attempts.length, 2)
  })
}

test("a page that is hidden wakes nothing", async (t) => {
  const p = page(t)
  p.document.visibilityState = "hidden"
  t.mock.method(Math, "random", () => 0.999)
  const g = await gateway((a) => a.refuse(503))
  const { stream } = open(g, { transport: "sse", backoff: { min: 5000, max: 20_000 } })
  await until(() => stream.state === "waiting")
  p.fire("visibilitychange")
  await new Promise((r) => setTimeout(r, 100))
  assert.equal(g.attempts.length, 1)
})

test("timers that were throttled or asleep don't make a live connection a dead one", async (t) => {
  const p = page(t)
  const g = await gateway(async (a) => {
    await a.accept({ heartbeat_s: 1 })
    a.ws.on("message", (m) => setTimeout(() => a.send({ type: "pong" }), 100))
  })
  const { stream, got } = open(g)
  await stream.ready()
  p.fire("visibilitychange", 3600_000) // an hour later by the clock, and nothing was read in it
  await until(() => g.attempts[0].messages.length)
  await new Promise((r) => setTimeout(r, 1500))
  assert.deepEqual(got.errors, [])
  assert.equal(g.attempts.length, 1)
})

test("a connection that died while the page slept is found when it wakes", async (t) => {
  const p = page(t)
  const g = await gateway((a, n) => a.accept({ heartbeat_s: n ? 25 : 1 }))
  const { stream, got } = open(g)
  await stream.ready()
  p.fire("resume", 3600_000)
  await until(() => g.attempts.length === 2 && stream.state === "live")
  assert.equal(got.errors[0].code, "timeout")
})
