// All cases of internal/conformance, over both transports. CONFORMANCE_BIN names its program.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { test } from "node:test"
import WebSocket from "ws"
import { EventStream } from "../dist/index.js"

const program = process.env.CONFORMANCE_BIN
const names = { 400: "bad_request", 401: "unauthorized", 403: "forbidden", 4003: "not_allowed", 4004: "expired" }

/** Follows a case until it has what is wanted, or has ended. */
async function follow(base, { client, want }, transport) {
  const got = { events: [], gaps: [], error: "" }
  let asked = 0
  const from = client.durable ? { durable: true } : client.since ? { since: client.since } : undefined
  const stream = new EventStream(base, {
    subscriberId: "ann", transport, from, WebSocket, ack: client.ack ?? "off",
    token: client.token ? () => `token-${++asked}` : undefined,
    backoff: { min: 50, max: 1000 }, timeout: 2000,
  })
  await new Promise((done) => {
    const limit = setTimeout(done, 60_000)
    const enough = () => {
      if (!want.error && got.events.length >= (want.events ?? []).length && got.gaps.length >= (want.gaps ?? []).length) {
        clearTimeout(limit)
        done()
      }
    }
    stream.on("event", (e) => (got.events.push(e.id), enough()))
    stream.on("gap", (g) => (got.gaps.push(g.reason), enough()))
    stream.on("error", () => {})
    stream.on("close", ({ error }) => {
      got.error = error ? (names[error.code] ?? String(error)) : ""
      clearTimeout(limit)
      done()
    })
  })
  await stream.close()
  return got
}

test("conformance", { skip: !program && "CONFORMANCE_BIN is not set", concurrency: true }, async (t) => {
  const kit = spawn(program, { stdio: ["pipe", "pipe", "inherit"] })
  try {
    const url = await new Promise((told) => createInterface(kit.stdout).once("line", told))
    const cases = await (await fetch(url + "/cases")).json()
    assert.ok(cases.length > 20)
    const all = []
    for (const transport of ["websocket", "sse"]) {
      const path = transport === "sse" ? "sse" : "ws"
      // A page is not told why a WebSocket was refused: see "What can go wrong" in README.md.
      for (const c of cases.filter((c) => (!c.only || c.only === path) && !(c.refused && path === "ws"))) {
        all.push(
          t.test(`${c.name} over ${transport}`, async () => {
            const base = `${url}/${c.name}/ts-${path}`
            const got = await follow(`${base}/${path}`, c, transport)
            const answer = await fetch(base + "/result", { method: "POST", body: JSON.stringify(got) })
            assert.equal(answer.status, 200, await answer.text())
          }),
        )
      }
    }
    await Promise.all(all)
  } finally {
    kit.stdin.end()
  }
})
