// Handlers, loops, acknowledgements, and where the place is kept.
import assert from "node:assert/strict"
import { test } from "node:test"
import { EventStream, localStorageCursor } from "../dist/index.js"
import { gateway, open } from "./setup.js"
import { until } from "./server.js"
import { page } from "./page.js"

const numbered = (n, from = 0) => Array.from({ length: n }, (_, i) => `0-${from + i}`)

test("events look as they should", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.send({ type: "events", events: [{ id: "3-10293", ts: 1767323045678, data: { event_type: "a", x: "<é>" } }] })
  })
  const { stream } = open(g, { listen: false })
  for await (const e of stream) {
    assert.deepEqual(e, { id: "3-10293", ts: new Date(1767323045678), data: { event_type: "a", x: "<é>" } })
    break
  }
  assert.equal(stream.state, "closed") // leaving the loop closes
  await until(() => g.attempts[0].over)
  assert.throws(() => stream[Symbol.asyncIterator](), /iterated once/)
})

test("events wait for a handler or a loop, in order", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.events(numbered(3))
  })
  const { stream } = open(g, { listen: false })
  await stream.ready()
  await new Promise((r) => setTimeout(r, 50))
  const ids = []
  const off = stream.on("event", (e) => {
    ids.push(e.id)
    off()
  })
  await until(() => ids.length)
  for await (const e of stream) if (ids.push(e.id) === 3) break
  assert.deepEqual(ids, numbered(3))
})

test("handlers that throw, or whose promises fail, are reported and stop nothing", async (t) => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.send({ type: "gap", to: "c1", reason: "trimmed" })
    a.events(numbered(3))
  })
  const { stream, got } = open(g)
  const fail = () => {
    throw new Error("mine")
  }
  for (const name of ["state", "gap", "event"]) stream.on(name, fail)
  stream.on("event", async () => fail())
  await until(() => got.ids.length === 3 && got.errors.length >= 8)
  assert.ok(got.errors.every((e) => e.code === "handler" && e.cause.message === "mine"))
  assert.equal(g.attempts.length, 1)
  const log = t.mock.method(console, "error", () => {})
  stream.on("error", fail) // even one of errors
  stream.reconnect()
  await until(() => log.mock.callCount() > 0)
})

test("a handler's promise holds the next event back", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.events(numbered(5))
  })
  const { stream } = open(g, { listen: false })
  let running = 0
  let done = 0
  stream.on("event", async () => {
    assert.equal(++running, 1)
    await new Promise((r) => setTimeout(r, 5))
    running--
    done++
  })
  await until(() => done === 5)
})

for (const transport of ["websocket", "sse"])
  test(`${transport}: the buffer is bounded: a slow loop loses nothing and gets nothing twice`, async () => {
    const total = 400
    const g = await gateway(async (a) => {
      await a.accept()
      const [, last = "-1"] = /0-(\d+)/.exec(a.query.seen ?? "") ?? [, a.query.cursor?.slice(1)]
      for (let i = +last + 1; i < total && !a.over; i++) {
        a.events([`0-${i}`], i % 7 === 6 ? `c${i}` : undefined)
        if (i % 20 === 19) await new Promise((r) => setTimeout(r, 2))
      }
    })
    const { stream, got } = open(g, { transport, listen: false, maxBuffered: 10, from: { cursor: "c-1" } })
    const ids = []
    for await (const e of stream) {
      ids.push(e.id)
      if (ids.length % 10 === 0) await new Promise((r) => setTimeout(r, 10))
      if (ids.length === total) break
    }
    assert.deepEqual(ids, numbered(total))
    if (transport === "websocket") assert.ok(got.states.some((s) => s.state === "paused") && g.attempts.length > 1)
    else assert.equal(g.attempts.length, 1) // it just reads no more
    assert.deepEqual(got.errors, [])
  })

for (const name of ["close", "reconnect"])
  test(`${name}() in a handler of "paused" ends the pause`, async () => {
    const g = await gateway(async (a, n) => {
      await a.accept()
      if (n === 0) a.events(numbered(20), "c1")
    })
    const { stream, got } = open(g, { transport: "websocket", listen: false, maxBuffered: 10 })
    let [calls, ended] = [0, false]
    stream.on("state", async ({ state }) => {
      if (state !== "paused" || calls++) return
      await stream[name]()
      ended = true
    })
    await until(() => ended && g.attempts.length === (name === "close" ? 1 : 2))
    assert.deepEqual(got.errors, [])
  })

test("after a final error a loop gets what came before it, and then the error", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.events(numbered(3))
    a.close(4003, "revoked")
  })
  const { stream, got } = open(g, { listen: false })
  await until(() => got.closed.length)
  const ids = []
  await assert.rejects(
    async () => {
      for await (const e of stream) ids.push(e.id)
    },
    { name: "RevokedError" },
  )
  assert.deepEqual(ids, numbered(3))
})

test("close() ends a loop that waits", async () => {
  const g = await gateway((a) => a.accept())
  const { stream } = open(g, { listen: false })
  await stream.ready()
  setTimeout(() => stream.close(), 10)
  for await (const _ of stream) assert.fail()
})

test("ack auto: what was handled, a second later, and the rest at close()", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.ws.on("message", (m) => a.send({ ...JSON.parse(m), type: "acked" }))
    a.events(["0-1", "1-5"], "c1")
    a.events(["0-2"])
  })
  const { stream, got } = open(g, { from: { durable: true } })
  await until(() => got.acked.length)
  assert.equal(g.attempts[0].query.durable, "true")
  assert.deepEqual(g.attempts[0].messages, [{ type: "ack", cursor: "c1", seen: "0-2" }])
  g.attempts[0].events(["0-3"])
  await until(() => got.ids.length === 4)
  await stream.close()
  await until(() => g.attempts[0].over)
  assert.deepEqual(g.attempts[0].messages[1], { type: "ack", cursor: "c1", seen: "0-3" })
})

test("a handler that ends after close() leaves no timer", async (t) => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.events(["0-1"], "c1")
  })
  const { stream } = open(g, { ack: "auto", listen: false })
  let end
  stream.on("event", () => new Promise((r) => (end = r)))
  await until(() => end)
  await stream.close()
  const timers = t.mock.method(globalThis, "setTimeout")
  end()
  await new Promise((r) => setImmediate(r))
  assert.equal(timers.mock.callCount(), 0)
  await stream.close()
})

test("ack manual: only up to the event that it names, also past a cursor, and again on the next connection", async () => {
  const g = await gateway(async (a, n) => {
    await a.accept()
    if (n > 0) return
    a.events(["0-1", "1-5", "0-2"], "c1")
    a.events(["0-3", "0-4"], "c2")
  })
  const { stream } = open(g, { ack: "manual", listen: false })
  const events = []
  stream.on("event", (e) => void events.push(e))
  await until(() => events.length === 5)
  assert.equal(stream.cursor, "c0")
  stream.ack(events[1])
  stream.ack(events[0]) // never back
  await until(() => g.attempts[0].messages.length === 1)
  assert.deepEqual(g.attempts[0].messages[0], { type: "ack", cursor: "c0", seen: "0-1,1-5" })
  stream.ack(events[3])
  await until(() => g.attempts[0].messages.length === 2)
  assert.deepEqual(g.attempts[0].messages[1], { type: "ack", cursor: "c1", seen: "0-3" })
  g.attempts[0].drop() // before it was answered
  await until(() => g.attempts[1]?.messages.length)
  assert.deepEqual(g.attempts[1].messages[0], { type: "ack", cursor: "c1", seen: "0-3" })
  stream.ack()
  await until(() => g.attempts[1].messages.length === 2)
  assert.deepEqual(g.attempts[1].messages[1], { type: "ack", cursor: "c1", seen: "0-4" })
  assert.throws(() => stream.ack({ id: "0-1" }), /an event of this stream/)
})

test("ack before the first cursor: from the hello's on, which is no place to connect with", async () => {
  const g = await gateway(async (a) => {
    await a.accept({ hello: { resumed: false } })
    a.events(["0-1", "0-2", "0-3"])
  })
  const { stream } = open(g, { from: { durable: true }, ack: "manual", listen: false })
  const events = []
  stream.on("event", (e) => void events.push(e))
  await until(() => events.length === 3)
  stream.ack(events[1])
  await until(() => g.attempts[0].messages.length)
  assert.deepEqual(g.attempts[0].messages, [{ type: "ack", cursor: "c0", seen: "0-2" }])
  g.attempts[0].drop()
  await until(() => g.attempts.length === 2 && stream.state === "live")
  assert.deepEqual(g.attempts[1].query, { subscriber_id: "user_1", durable: "true" })
  assert.equal(events.length, 3)
})

test("ack_later: it is said again", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.ws.on("message", () => a.send(a.messages.length < 2 ? { type: "error", code: "ack_later", message: "later" } : { type: "acked", cursor: "c1" }))
    a.events(["0-1"], "c1")
  })
  const { got } = open(g, { ack: "auto" })
  await until(() => got.acked.length)
  assert.equal(got.errors[0].code, "ack_later")
})

test("acknowledgements over a stream: it is told, once, that they wait", async () => {
  const g = await gateway(async (a, n) => {
    await a.accept()
    if (n === 0) a.drop()
  })
  const { stream, got } = open(g, { transport: "sse", ack: "auto" })
  await until(() => g.attempts.length === 2 && stream.state === "live")
  assert.equal(got.errors.filter((e) => e.code === "ack").length, 1)
})

test("acknowledgements over a stream: a WebSocket is tried again, though the stream is healthy", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] })
  let blocked = true
  const g = await gateway(async (a) => {
    if (a.kind === "ws" && blocked) return a.raw.socket.destroy()
    await a.accept({ hello: { cursor: a.query.cursor ?? "c0" } })
    a.send({ type: "token", expires: Date.now() / 1000 + 3600 })
  })
  const { stream, got } = open(g, { ack: "auto", token: () => "t" })
  await until(() => g.attempts.length === 3 && stream.state === "live")
  const now = Date.now
  const minutes = (n) => {
    t.mock.method(Date, "now", () => now() + n * 60_000)
    t.mock.timers.tick(300_000)
  }
  minutes(6)
  assert.equal(stream.state, "live") // nothing waits yet
  g.attempts[2].events(["0-1"], "c1")
  await until(() => got.ids.length)
  minutes(12)
  await until(() => g.attempts.length === 5 && stream.state === "live") // still blocked
  blocked = false
  minutes(18)
  await until(() => g.attempts.at(-1).messages.length)
  assert.deepEqual(g.attempts.map((a) => a.kind), ["ws", "ws", "sse", "ws", "sse", "ws"])
  assert.deepEqual(g.attempts.at(-1).messages, [{ type: "ack", cursor: "c1" }])
})

test("the place is kept, with what was seen, and the next stream goes on there", async () => {
  const kept = new Map()
  const store = { load: () => kept.get("k"), save: async (v) => void kept.set("k", v) }
  const g = await gateway(async (a, n) => {
    await a.accept()
    if (n > 0) return a.events(["0-2", "0-3"])
    a.events(["0-1"], "c1")
    a.events(["0-2"])
  })
  const first = open(g, { cursor: store })
  await until(() => first.got.ids.length === 2)
  await first.stream.close()
  assert.equal(kept.get("k"), "c1 0-2")
  const second = open(g, { cursor: store })
  await until(() => second.got.ids.length)
  assert.deepEqual(second.got.ids, ["0-3"])
  assert.deepEqual(g.attempts[1].query, { subscriber_id: "user_1", cursor: "c1", seen: "0-2" })
})

test("a stream that ends before the kept place is loaded leaves it alone", async (t) => {
  const p = page(t)
  const abort = new AbortController()
  for (const [what, end] of [
    ["close()", (s) => s.close()],
    ["pagehide", () => p.fire("pagehide")],
    ["abort", () => abort.abort()],
  ]) {
    const saved = []
    let loaded
    const store = { load: () => new Promise((r) => (loaded = r)), save: (text) => void saved.push(text) }
    const { stream } = open("ws://127.0.0.1:1", { from: { cursor: "old" }, cursor: store, signal: abort.signal })
    end(stream) // before it has asked for the place
    await until(() => loaded)
    end(stream) // and before it is told
    loaded("kept")
    await stream.close()
    assert.deepEqual(saved.filter((text) => text !== "kept"), [], what)
  }
})

test("a kept place that could not be loaded is not overwritten", async () => {
  const saved = []
  const store = { load: () => Promise.reject(new Error("load")), save: (text) => void saved.push(text) }
  const g = await gateway(async (a) => {
    await a.accept()
    a.events(["0-1"], "c1")
  })
  const { stream } = open(g, { cursor: store })
  await until(() => stream.cursor === "c1")
  await stream.close()
  assert.deepEqual(saved, [])
})

test("centrifuge-js#378: a storage that throws is told once, and the place is kept in memory", async (t) => {
  const broken = {
    get localStorage() {
      throw new Error("SecurityError")
    },
    load: () => Promise.reject(new Error("load")),
    save: () => Promise.reject(new Error("save")),
  }
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => broken.localStorage })
  t.after(() => delete globalThis.localStorage)
  for (const cursor of [localStorageCursor("k"), broken]) {
    const g = await gateway(async (a, n) => {
      await a.accept()
      a.events([`0-${n}`], `c${n}`)
    })
    const { stream, got } = open(g, { cursor })
    await until(() => stream.cursor === "c0")
    g.attempts[0].drop()
    await until(() => stream.cursor === "c1")
    assert.equal(g.attempts[1].query.cursor, "c0")
    assert.deepEqual(got.errors.map((e) => e.code), ["storage", 1006])
  }
})

test("Node 25: a localStorage without its functions is no storage", async (t) => {
  Object.defineProperty(globalThis, "localStorage", { configurable: true, value: {} })
  t.after(() => delete globalThis.localStorage)
  const g = await gateway((a) => a.accept())
  const { stream, got } = open(g, { cursor: localStorageCursor("k") })
  await stream.ready()
  assert.deepEqual(got.errors.map((e) => e.code), ["storage"])
})

test("electric#3116: a kept place that the gateway does not understand is a gap, not a failure at each start", async () => {
  const kept = { load: () => "garbage", save: (v) => (kept.saved = v) }
  const g = await gateway((a) => (a.query.cursor === "garbage" ? a.refuse(400, {}, "bad cursor") : a.accept()))
  const { stream, got } = open(g, { cursor: kept, transport: "sse" })
  await stream.ready()
  assert.equal(got.gaps[0].reason, "bad_cursor")
  await until(() => kept.saved)
  assert.equal(kept.saved, "c0")
  assert.equal(g.attempts.length, 2)
})

test("importing touches nothing global, and a stream adds no listeners that outlive it", async (t) => {
  page(t)
  const left = new Set()
  const add = globalThis.addEventListener
  globalThis.addEventListener = (name, act, options) => {
    left.add(name)
    options.signal.addEventListener("abort", () => left.delete(name))
    add(name, act, options)
  }
  await import("../dist/index.js?again")
  assert.equal(left.size, 0)
  const stream = new EventStream("ws://127.0.0.1:1", { subscriberId: "a" })
  assert.ok(left.has("online"))
  await stream.close()
  assert.equal(left.size, 0)
})
