import { afterEach } from "node:test"
import WebSocket from "ws"
import { EventStream } from "../dist/index.js"
import { serve } from "./server.js"

const left = []

afterEach(async () => {
  for (const end of left.splice(0).reverse()) await end()
})

/** A gateway that ends with the test. */
export async function gateway(on, port) {
  const g = await serve(on, port)
  left.push(() => g.close())
  return g
}

/** A stream that ends with the test, and what it has said: the ids of events, states, gaps and errors. */
export function open(g, options = {}) {
  const { listen = true, ...rest } = options
  const stream = new EventStream(g.url ?? g, { subscriberId: "user_1", WebSocket, backoff: { min: 1, max: 20 }, ...rest })
  left.push(() => stream.close())
  const got = { ids: [], states: [], gaps: [], errors: [], acked: [], closed: [] }
  if (listen) stream.on("event", (e) => void got.ids.push(e.id))
  stream.on("state", (s) => void got.states.push(s))
  stream.on("gap", (g) => void got.gaps.push(g))
  stream.on("error", (e) => void got.errors.push(e))
  stream.on("acked", (a) => void got.acked.push(a))
  stream.on("close", (c) => void got.closed.push(c))
  return { stream, got }
}

