// Nothing is lost and nothing comes twice, whatever ends the connection.
import assert from "node:assert/strict"
import { test } from "node:test"
import { gateway, open } from "./setup.js"
import { until } from "./server.js"

for (const transport of ["websocket", "sse"]) {
  test(`${transport}: a drop between two cursors is resumed with the cursor and what was seen`, async () => {
    const g = await gateway(async (a, n) => {
      await a.accept()
      if (n > 0) return a.events(["3-11", "0-8", "0-9"], "c3") // 3-11 again, as a gateway may at the seam
      a.events(["0-5"], "c1")
      a.events(["3-10", "0-7", "3-11"])
      setTimeout(() => a.drop(), 50)
    })
    const { stream, got } = open(g, { transport })
    await until(() => got.ids.includes("0-9"))
    assert.deepEqual(got.ids, ["0-5", "3-10", "0-7", "3-11", "0-8", "0-9"])
    const { cursor, seen } = g.attempts[1].query
    assert.equal(cursor, "c1")
    assert.deepEqual(seen.split(",").sort(), ["0-7", "3-11"])
    assert.equal(stream.cursor, "c3")
    assert.deepEqual(got.gaps, [])
  })

  test(`${transport}: an events message of a stream without a cursor has it as its id`, async () => {
    const g = await gateway(async (a, n) => {
      await a.accept()
      if (n === 0) a.events(["0-1"], undefined, "c1")
    })
    const { stream, got } = open(g, { transport })
    await until(() => got.ids.length)
    g.attempts[0].drop()
    await until(() => g.attempts.length === 2 && stream.state === "live")
    if (transport === "sse") assert.deepEqual(g.attempts[1].query, { subscriber_id: "user_1", cursor: "c1" })
  })

  test(`${transport}: a gap is told once, and the stream goes on behind it`, async () => {
    const missing = [{ partition: 3, from: 100, to: 250 }]
    const g = await gateway(async (a, n) => {
      await a.accept({ hello: { resumed: false, cursor: "new" } })
      if (n === 0) return a.drop() // before the gap: the old cursor has to stay
      a.send({ type: "gap", from: "old", to: "c5", reason: "trimmed", missing })
      a.events(["0-9"])
    })
    const { stream, got } = open(g, { transport, from: { cursor: "old" } })
    await until(() => got.ids.length)
    assert.deepEqual(g.attempts.map((a) => a.query.cursor), ["old", "old"])
    assert.deepEqual(got.gaps, [{ from: "old", to: "c5", reason: "trimmed", missing }])
    assert.equal(stream.cursor, "c5")
  })
}

test("offsets that begin again after other_topic are no repeats", async () => {
  const g = await gateway(async (a) => {
    await a.accept()
    a.events(["0-100"], "c1")
    a.send({ type: "gap", from: "c1", to: "c2", reason: "other_topic" })
    a.events(["0-0"])
  })
  const { got } = open(g)
  await until(() => got.ids.length === 2)
})

test("offsets are compared to their last digit", async () => {
  const ids = ["0-9", "0-10", "0-9007199254740992", "0-9007199254740993", "1-5", "0-9223372036854775806", "0-9223372036854775807"]
  const g = await gateway(async (a, n) => {
    await a.accept()
    if (n === 0) a.events(ids)
    else a.events([...ids, "1-6"]) // the others again
  })
  const { stream, got } = open(g)
  await until(() => got.ids.includes(ids.at(-1)))
  stream.reconnect()
  await until(() => got.ids.includes("1-6"))
  assert.deepEqual(got.ids, [...ids, "1-6"])
})

test("unknown messages and fields are ignored", async () => {
  const g = await gateway(async (a) => {
    await a.accept({ hello: { version: 7, later: {} } })
    a.send({ type: "confetti", cursor: "no" })
    a.send({ type: "events", events: [{ id: "0-1", ts: 0, data: null, more: 1 }], more: 2 })
  })
  const { stream, got } = open(g)
  await until(() => got.ids.length)
  assert.equal(stream.cursor, "c0")
  assert.equal(g.attempts.length, 1)
})

test("what can't be understood ends the connection, not the stream", async () => {
  const bad = ["{", "null", `{"type":"events","events":[{"id":"x","ts":0}]}`, `{"type":"events"}`]
  const g = await gateway(async (a, n) => {
    await a.accept()
    if (n < bad.length) a.send(bad[n])
    else a.events(["0-1"])
  })
  const { got } = open(g)
  await until(() => got.ids.length)
  assert.deepEqual(got.errors.map((e) => [e.name, e.code]), bad.map(() => ["ProtocolError", 1002]))
})

test("where to begin without a cursor: since, kept until there is one", async () => {
  const g = await gateway(async (a, n) => (n < 2 ? a.refuse(503) : a.accept({ hello: { resumed: false } })))
  const { stream } = open(g, { from: { since: "1h" }, transport: "websocket" })
  await stream.ready()
  for (const a of g.attempts) assert.match(a.query.since, /^36\d{5}ms$/)
  stream.reconnect()
  await until(() => g.attempts.length === 4)
  assert.ok(g.attempts[3].query.since && !g.attempts[3].query.cursor, "a hello that resumes nothing is no place to go on from")
  const at = open(g, { from: { since: new Date("2026-01-02T03:04:05Z") } })
  await at.stream.ready()
  assert.equal(g.attempts.at(-1).query.since, "2026-01-02T03:04:05.000Z")
})

test("a cursor of 4 KB, and 1000 partitions, fit", async () => {
  const cursor = "A".repeat(4096)
  const ids = Array.from({ length: 1000 }, (_, p) => `${p}-7`)
  const g = await gateway(async (a, n) => {
    await a.accept({ hello: { cursor } })
    if (n === 0) {
      a.events(ids)
      setTimeout(() => a.drop(), 50)
    } else a.events(ids)
  })
  const { stream, got } = open(g)
  await until(() => g.attempts.length > 1 && stream.state === "live")
  const { seen } = g.attempts[1].query
  assert.ok(seen.length <= 4096 && seen.split(",").every((id) => ids.includes(id)), seen)
  await new Promise((r) => setTimeout(r, 50))
  assert.equal(got.ids.length, 1000) // those that could not be named came again
})

test("a handshake refused for what it named goes again without that", async () => {
  const g = await gateway(async (a, n) => {
    if (a.query.seen) return a.refuse(400)
    await a.accept()
    if (n === 0) {
      a.events(["0-1"])
      setTimeout(() => a.drop(), 30)
    } else a.events(["0-1", "0-2"])
  })
  const { got } = open(g, { transport: "sse" })
  await until(() => got.ids.length === 2)
  assert.deepEqual(got.ids, ["0-1", "0-2"])
})
