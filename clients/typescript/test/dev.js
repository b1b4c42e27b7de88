// A real gateway: `eventstream dev`, whose program EVENTSTREAM_BIN names.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { until } from "./server.js"

export const program = process.env.EVENTSTREAM_BIN
export const skip = program ? false : "EVENTSTREAM_BIN does not name the program eventstream"

async function freePorts(n) {
  const servers = await Promise.all(
    Array.from({ length: n }, async () => {
      const s = createServer().listen(0, "127.0.0.1")
      await once(s, "listening")
      return s
    }),
  )
  const ports = servers.map((s) => s.address().port)
  await Promise.all(servers.map((s) => new Promise((r) => s.close(r))))
  return ports
}

/** Starts it. Its events outlive a restart, its filters do not. */
export async function startDev() {
  const data = await mkdtemp(join(tmpdir(), "eventstream-clients-"))
  const [api, filter, gateway, kafka] = await freePorts(4)
  let child
  let output = ""
  const dev = {
    url: `ws://127.0.0.1:${gateway}`,
    gateway,
    async start() {
      const ports = { "--api-port": api, "--filter-port": filter, "--gateway-port": gateway, "--kafka-port": kafka }
      child = spawn(program, ["dev", "--rate", "0", "--data", data, ...Object.entries(ports).flat().map(String)], { stdio: ["ignore", "pipe", "pipe"] })
      for (const out of [child.stdout, child.stderr]) out.on("data", (b) => (output = (output + b).slice(-10_000)))
      await until(async () => {
        if (child.exitCode !== null) throw new Error("eventstream dev ended: " + output)
        return (await fetch(`http://127.0.0.1:${gateway}/readyz`).catch(() => {}))?.ok
      }, "eventstream dev is ready")
    },
    async stop(signal = "SIGTERM") {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill(signal)
      await once(child, "exit")
    },
    async filter(subscriber) {
      const body = JSON.stringify({ subscriber_id: subscriber, event_types: ["purchase"] })
      const r = await fetch(`http://127.0.0.1:${api}/filters`, { method: "POST", headers: { "Content-Type": "application/json" }, body })
      if (!r.ok) throw new Error(`${r.status} ${await r.text()}`)
    },
    /** Produces purchases with these numbers. */
    async produce(numbers) {
      const p = spawn(program, ["producer", "--file", "-", "--kafka", `127.0.0.1:${kafka}`], { stdio: ["pipe", "ignore", "pipe"] })
      let said = ""
      p.stderr.on("data", (b) => (said += b))
      p.stdin.end(numbers.map((n) => JSON.stringify({ event_type: "purchase", user_id: `u${n % 10}`, amount: n }) + "\n").join(""))
      const [code] = await once(p, "exit")
      if (code) throw new Error("producer: " + said)
    },
    async end() {
      await dev.stop("SIGKILL")
      await rm(data, { recursive: true, force: true })
    },
  }
  await dev.start()
  return dev
}

export const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)
