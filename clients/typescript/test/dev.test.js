// Against a real gateway.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { startDev, range, skip } from "./dev.js"
import { open } from "./setup.js"
import { until } from "./server.js"

let dev
before(async () => {
  if (!skip) dev = await startDev()
})
after(() => dev?.end())

const sorted = (a) => [...a].sort((x, y) => x - y)

/** A stream, and the numbers that it got. */
function follow(subscriberId, options = {}) {
  const { stream, got } = open(dev, { subscriberId, listen: false, ...options })
  const numbers = []
  stream.on("event", (e) => void numbers.push(e.data.amount))
  return { stream, got, numbers }
}

test("a gateway that is killed and comes back: nothing lost, nothing twice, over both transports", { skip }, async () => {
  await dev.filter("both")
  const streams = ["websocket", "sse", "auto"].map((transport) => follow("both", { transport, backoff: { min: 50, max: 500 } }))
  await Promise.all(streams.map((s) => s.stream.ready()))
  await dev.produce(range(0, 50))
  await until(() => streams.every((s) => s.numbers.length === 50))
  await dev.stop("SIGKILL")
  await dev.start()
  await dev.filter("both")
  await dev.produce(range(50, 100))
  await Promise.all(streams.map((s) => s.stream.ready()))
  await dev.produce(range(100, 150))
  await until(() => streams.every((s) => s.numbers.length >= 150))
  for (const s of streams) {
    assert.deepEqual(sorted(s.numbers), range(0, 150))
    assert.deepEqual(s.got.gaps, [])
    assert.deepEqual(s.got.closed, [])
  }
})

test("a gateway that stops says when to come back, and is obeyed", { skip }, async () => {
  await dev.filter("drain")
  const { stream, got, numbers } = follow("drain")
  await stream.ready()
  await dev.produce(range(0, 10))
  await until(() => numbers.length === 10)
  await dev.stop()
  await until(() => got.errors.length)
  assert.equal(got.errors[0].code, 1001)
  assert.match(got.errors[0].message, / in \d/)
  await dev.start()
  await dev.filter("drain")
  await stream.ready()
  await dev.produce(range(10, 20))
  await until(() => numbers.length === 20)
  assert.deepEqual(sorted(numbers), range(0, 20))
})

test("durable: the next client goes on after what was acknowledged", { skip }, async () => {
  await dev.filter("worker")
  const first = follow("worker", { from: { durable: true }, ack: "manual" })
  const events = []
  first.stream.on("event", (e) => void events.push(e))
  await first.stream.ready()
  await dev.produce(range(0, 30))
  await until(() => events.length === 30)
  first.stream.ack(events[19])
  await until(() => first.got.acked.length)
  await first.stream.close()
  const second = follow("worker", { from: { durable: true } })
  await until(() => second.numbers.length >= 10)
  assert.deepEqual(sorted([...events.slice(0, 20).map((e) => e.data.amount), ...second.numbers]), range(0, 30))
})

test("since: what was produced before", { skip }, async () => {
  await dev.filter("past")
  await dev.produce(range(1000, 1020))
  for (const transport of ["websocket", "sse"]) {
    const { numbers } = follow("past", { transport, from: { since: "10m" } })
    await until(() => range(1000, 1020).every((n) => numbers.includes(n)))
  }
})

test("a loop that is slower than its events gets all of them", { skip }, async () => {
  await dev.filter("slow")
  const { stream } = open(dev, { subscriberId: "slow", listen: false, maxBuffered: 5, backoff: { min: 10, max: 50 } })
  await stream.ready()
  await dev.produce(range(0, 100))
  const numbers = []
  for await (const e of stream) {
    numbers.push(e.data.amount)
    if (numbers.length % 10 === 0) await new Promise((r) => setTimeout(r, 20))
    if (numbers.length === 100) break
  }
  assert.deepEqual(sorted(numbers), range(0, 100))
})

test("wrong parameters are said by the gateway", { skip }, async () => {
  const { got } = open(dev.url + "?colour=red", { transport: "sse" })
  await until(() => got.closed.length)
  assert.equal(got.closed[0].error.code, 400)
  assert.match(got.closed[0].error.message, /colour/)
})
