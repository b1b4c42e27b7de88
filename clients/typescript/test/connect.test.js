// Attempts: when they are made, what ends them, which of them are the last.
import assert from "node:assert/strict"
import { test } from "node:test"
import WebSocket from "ws"
import * as client from "../dist/index.js"
import { gateway, open } from "./setup.js"
import { until } from "./server.js"

const { AuthError, EventStream } = client

test("bad options are named", () => {
  const url = "ws://127.0.0.1:1"
  for (const [u, options, want] of [
    ["", {}, /^url: /],
    ["ftp://x", {}, /^url: ftp:; want .*wss:/],
    [url, { subscriberId: undefined }, /token: undefined; want one, or subscriberId/],
    [url, { transport: "pigeon" }, /transport: pigeon.*websocket/],
    [url, { ack: "yes" }, /ack: yes.*manual/],
    [url, { backoff: { min: 0 } }, /min: 0/],
    [url, { maxBuffered: NaN }, /maxBuffered: NaN/],
    [url, { from: { since: "yesterday" } }, /since: yesterday.*1h30m/],
  ])
    assert.throws(() => new EventStream(u, { subscriberId: "a", WebSocket, ...options }), (e) => e instanceof TypeError && want.test(e.message), String(want))
  const stream = new EventStream(url, { subscriberId: "a" })
  assert.throws(() => stream.on("evnt", () => {}), /evnt is not known/)
  return stream.close()
})

test("addresses: a path that names one endpoint has the other beside it", async () => {
  const g = await gateway((a) => a.accept())
  const at = `127.0.0.1:${g.port}`
  for (const [url, transport, path] of [
    [at, "websocket", "/ws"],
    [`http://${at}/`, "websocket", "/ws"],
    [`ws://${at}/ws`, "sse", "/sse"],
    [`http://${at}/events/sse?x=1`, "websocket", "/events/ws"],
    [new URL(`http://${at}/events`), "sse", "/events/sse"],
  ]) {
    const { stream } = open(url, { transport })
    await stream.ready()
    assert.equal(g.attempts.at(-1).path, path)
  }
})

test("a token goes where browsers can put it", async () => {
  const g = await gateway((a) => a.accept())
  for (const transport of ["websocket", "sse"]) {
    const { stream } = open(g, { transport, token: "aa.bb.cc", subscriberId: undefined })
    await stream.ready()
    assert.equal(g.attempts.at(-1).token, "aa.bb.cc")
    assert.deepEqual(g.attempts.at(-1).query, {})
  }
})

for (const [what, end, name, code] of [
  ["400", (a) => a.refuse(400), "ProtocolError", 400],
  ["403", (a) => a.refuse(403), "AuthError", 403],
  ["401 without another token", (a) => a.refuse(401), "AuthError", 401],
  ["4001", (a) => a.close(4001, "bad"), "ProtocolError", 4001],
  ["4003", (a) => a.close(4003, "revoked"), "RevokedError", 4003],
  ["4004 without another token", (a) => a.close(4004, "expired"), "AuthError", 4004],
])
  for (const transport of ["websocket", "sse"]) {
    if (transport === "websocket" && code < 4000) continue // a browser does not see these
    test(`${transport}: ${what} is the last`, async () => {
      const g = await gateway(async (a) => {
        if (code > 4000) await a.accept()
        end(a)
      })
      const { stream, got } = open(g, { transport, token: "t" })
      await until(() => got.closed.length)
      assert.deepEqual([got.closed[0].error.name, got.closed[0].error.code, got.closed[0].error.retryable], [name, code, false])
      assert.equal(stream.state, "closed")
      await assert.rejects(stream.ready(), { name })
      await assert.rejects(stream[Symbol.asyncIterator]().next(), { name })
      assert.equal(g.attempts.length, 1)
    })
  }

for (const transport of ["websocket", "sse"])
  test(`${transport}: all other ends are followed by another attempt`, async () => {
    const ends = [
      (a) => a.close(1000),
      (a) => a.close(1001, "the gateway is stopping; reconnect in 35ms"),
      (a) => a.close(1009, "too big"),
      (a) => a.close(1011),
      (a) => a.close(1013),
      (a) => a.close(4008, "too slow"),
      (a) => a.close(4029, "too many messages"),
      (a) => a.close(4999),
      (a) => a.drop(),
    ]
    const g = await gateway(async (a, n) => {
      await a.accept()
      ends[n]?.(a)
    })
    const { stream, got } = open(g, { transport })
    await until(() => g.attempts.length === ends.length + 1 && stream.state === "live")
    assert.equal(got.errors.length, ends.length)
    assert.ok(got.errors.every((e) => e instanceof client.EventStreamError && e.retryable))
    assert.ok(got.errors[5] instanceof client.TooSlowError && got.errors[6] instanceof client.LimitError)
  })

test("hints of the server go before the backoff", async () => {
  const g = await gateway(async (a, n) => {
    if (n === 0) return a.refuse(503, { "Retry-After": "1" })
    if (n === 1) return a.refuse(429, { "Retry-After": new Date(Date.now() + 2000).toUTCString() })
    if (n === 2) {
      a.raw.writeHead(200, { "Content-Type": "text/event-stream" })
      return a.raw.end(`retry: 300\ndata: {"type":"error","code":"too_many_handshakes","message":"m"}\nevent: error\n\n`)
    }
    await a.accept()
    if (n === 3) a.close(1001, "reconnect in 250ms")
  })
  const { got } = open(g, { transport: "sse", backoff: { min: 1, max: 1 } })
  await until(() => g.attempts.length === 5)
  assert.deepEqual(got.errors.map((e) => e.name), ["ConnectError", "LimitError", "LimitError", "ConnectError"])
  for (const [i, least] of [1000, 800, 300, 250].entries()) {
    const pause = g.attempts[i + 1].at - g.attempts[i].at
    assert.ok(pause >= least - 5, `pause ${i}: ${pause} ms, want ${least}`)
  }
})

test("centrifuge-js#408: ends right after a handshake or a hello, also clean ones, make no tight loop", async () => {
  for (const end of [(a) => a.accept({ silent: true }).then(() => a.close(1000)), (a) => a.accept().then(() => a.close(1000)), (a) => a.refuse(503)]) {
    const g = await gateway(end)
    const { stream } = open(g, { transport: "websocket", backoff: { min: 200, max: 20_000 } })
    await new Promise((r) => setTimeout(r, 1500))
    // Pauses are drawn from 0 to 200, 400, 800, ... ms: without them there would be hundreds.
    assert.ok(g.attempts.length < 20, `${g.attempts.length} attempts`)
    await stream.close()
  }
})

test("partykit#210: close() leaves no socket in CONNECTING", async () => {
  const g = await gateway((a) => void a.raw.socket.resume()) // never answers
  for (const transport of ["websocket", "sse"]) {
    const { stream, got } = open(g, { transport })
    const n = g.attempts.length
    await until(() => g.attempts.length > n)
    await stream.close()
    assert.equal(got.closed.length, 1)
    await until(() => g.sockets.size === 0, "the socket is closed")
  }
})

test("partykit#210: a handshake that is never answered is given up, and its socket closed", async () => {
  const g = await gateway((a, n) => (n < 2 ? void a.raw.socket.resume() : a.accept()))
  const { stream } = open(g, { transport: "websocket", timeout: 100 })
  await stream.ready()
  await until(() => g.sockets.size === 1)
})

test("there are never two attempts at once, whatever asks for them", async () => {
  let tokens = 0
  const g = await gateway((a) => a.accept())
  const { stream } = open(g, {
    token: async () => {
      assert.equal(++tokens, 1)
      await new Promise((r) => setTimeout(r, 20))
      tokens--
      return "t"
    },
  })
  await stream.ready()
  for (let i = 0; i < 5; i++) stream.reconnect()
  await until(() => g.attempts.length >= 2 && stream.state === "live")
  assert.equal(g.attempts.filter((a) => !a.over).length, 1)
})

test("WebSockets that are blocked: server-sent events instead", async () => {
  const g = await gateway((a) => (a.kind === "ws" ? a.raw.socket.destroy() : a.accept()))
  const { stream, got } = open(g)
  await stream.ready()
  assert.deepEqual(g.attempts.map((a) => a.kind), ["ws", "ws", "sse"])
  g.attempts[2].drop()
  await until(() => g.attempts.length === 4)
  assert.equal(g.attempts[3].kind, "sse") // remembered
  assert.equal(got.states.find((s) => s.state === "live").transport, "sse")
})

test("an outage is not taken for blocked WebSockets", async () => {
  const g = await gateway((a, n) => (n < 4 ? a.refuse(503) : a.accept()))
  const { stream } = open(g)
  await stream.ready()
  assert.deepEqual(g.attempts.map((a) => a.kind), ["ws", "ws", "sse", "ws", "sse"])
})

test("where there is no WebSocket it is server-sent events at once", async (t) => {
  if (globalThis.WebSocket) return t.skip("this Node has one")
  const g = await gateway((a) => a.accept())
  await open(g, { WebSocket: undefined }).stream.ready()
  assert.deepEqual(g.attempts.map((a) => a.kind), ["sse"])
  assert.throws(() => new EventStream(g.url, { subscriberId: "a", transport: "websocket" }), /option WebSocket/)
})

for (const transport of ["websocket", "sse"]) {
  test(`${transport}: a gateway from which nothing is heard is given up`, async () => {
    const g = await gateway((a) => a.accept({ heartbeat_s: 0.05 })) // and never again a word, not even a pong
    const { got } = open(g, { transport })
    await until(() => g.attempts.length === 2)
    assert.equal(got.errors[0].code, "timeout")
    if (transport === "websocket") assert.deepEqual(g.attempts[0].messages, [{ type: "ping" }])
  })

  test(`${transport}: a quiet gateway that shows signs of life is not`, async () => {
    const g = await gateway(async (a) => {
      await a.accept({ heartbeat_s: 0.05 })
      if (a.ws) a.ws.on("message", () => a.send({ type: "pong" }))
      else setInterval(() => a.raw.write(":\n\n"), 30).unref()
    })
    const { stream, got } = open(g, { transport })
    await stream.ready()
    await new Promise((r) => setTimeout(r, 3000))
    assert.deepEqual(got.errors, [])
    assert.equal(stream.state, "live")
  })
}

test("a signal closes, also one that has fired", async () => {
  const g = await gateway((a) => a.accept())
  const abort = new AbortController()
  const { stream, got } = open(g, { signal: abort.signal })
  await stream.ready()
  abort.abort()
  await until(() => g.attempts[0].over)
  assert.deepEqual(got.closed, [{ error: undefined }])
  assert.equal(g.attempts[0].code, 1000)
  const late = open(g, { signal: abort.signal })
  assert.equal(late.stream.state, "closed")
  await late.stream.close()
  assert.equal(g.attempts.length, 1)
})

test("close() by a handler, while it is about to connect, connects nowhere", async () => {
  const g = await gateway((a) => a.accept())
  const { stream } = open(g)
  stream.on("state", ({ state }) => state === "connecting" && stream.close())
  await until(() => stream.state === "closed")
  await stream.close()
  await new Promise((r) => setTimeout(r, 50))
  assert.equal(g.attempts.length, 0)
})

for (const name of ["error", "waiting"])
  test(`reconnect() and close() in a handler of ${name} end the pause that it tells of`, async () => {
    const g = await gateway((a, n) => (n === 1 ? a.accept() : a.refuse(503)))
    const { stream, got } = open(g, { transport: "sse", backoff: { min: 1e9, max: 1e9 } })
    const act = () => (g.attempts.length < 3 ? stream.reconnect() : stream.close())
    if (name === "error") stream.on("error", act)
    else stream.on("state", ({ state }) => void (state === name && act()))
    await stream.ready()
    g.attempts[1].drop()
    await until(() => got.closed.length)
    assert.equal(g.attempts.length, 3)
    await stream.close()
  })

test("await using closes", async () => {
  const g = await gateway((a) => a.accept())
  const { stream } = open(g)
  await stream.ready()
  await stream[Symbol.asyncDispose]()
  assert.equal(stream.state, "closed")
})

test("AuthError of the token function ends the stream, others do not", async () => {
  const g = await gateway((a) => a.accept())
  let n = 0
  const { got } = open(g, {
    token: () => {
      if (++n === 1) throw new Error("offline")
      if (n === 2) return undefined
      if (n === 3) return "bad token"
      throw new AuthError("logged out")
    },
  })
  await until(() => got.closed.length)
  assert.equal(got.closed[0].error.message, "logged out")
  assert.deepEqual(got.errors.map((e) => e.code), ["token", "token", "token"])
  assert.equal(g.attempts.length, 0)
})
