// A gateway that does what a test tells it, over real sockets.
import { createServer } from "node:http"
import { WebSocketServer } from "ws"

/** Waits until a condition holds. */
export async function until(condition, what = condition) {
  for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((r) => setTimeout(r, 5))) {
    const value = await condition()
    if (value) return value
  }
  throw new Error("not in time: " + what)
}

/** One handshake, and the connection that it becomes. */
class Attempt {
  messages = [] // from the client
  over = false
  at = Date.now()

  constructor(kind, req, raw) {
    const url = new URL(req.url, "http://gateway")
    Object.assign(this, { kind, req, raw, path: url.pathname, query: Object.fromEntries(url.searchParams) })
    const offered = req.headers["sec-websocket-protocol"]?.split(/, ?/) ?? []
    this.token = kind === "ws" ? offered.find((p) => p.startsWith("bearer."))?.slice(7) : req.headers.authorization?.slice(7)
    this.cors = req.headers.origin ? { "Access-Control-Allow-Origin": req.headers.origin } : {}
  }

  refuse(status, headers = {}, detail = "no") {
    const body = JSON.stringify({ status, detail })
    const all = { "Content-Type": "application/problem+json", Connection: "close", ...this.cors, ...headers }
    if (this.kind === "sse") return this.raw.writeHead(status, all).end(body)
    const lines = Object.entries({ ...all, "Content-Length": body.length }).map(([k, v]) => `${k}: ${v}\r\n`)
    this.raw.socket.end(`HTTP/1.1 ${status} No\r\n${lines.join("")}\r\n${body}`)
  }

  async accept({ hello = {}, silent = false, heartbeat_s = 25 } = {}) {
    if (this.kind === "sse") {
      this.raw.writeHead(200, { "Content-Type": "text/event-stream", ...this.cors })
      this.raw.flushHeaders()
      this.raw.on("close", () => (this.over = true))
    } else {
      const { server, socket, head } = this.raw
      await new Promise((r) => server.handleUpgrade(this.req, socket, head, (ws) => r((this.ws = ws))))
      this.ws.on("message", (m) => this.messages.push(JSON.parse(m)))
      this.ws.on("close", (code) => Object.assign(this, { over: true, code }))
      this.ws.on("error", () => {})
    }
    if (!silent) this.send({ type: "hello", subscriber_id: "user_1", cursor: "c0", resumed: !!this.query.cursor, heartbeat_s, ...hello })
    return this
  }

  send(message, id) {
    const text = typeof message === "string" ? message : JSON.stringify(message)
    if (this.ws) this.ws.send(text)
    else this.raw.write(`data: ${text}\nevent: ${message.type}\n${id ? `id: ${id}\n` : ""}\n`)
  }

  events(ids, cursor, id) {
    this.send({ type: "events", events: ids.map((id, i) => ({ id, ts: 1767225600000, data: { i } })), ...(cursor && { cursor }) }, id)
  }

  close(code, reason) {
    if (this.ws) return this.ws.close(code, reason)
    this.send({ type: "close", close_code: code, reason })
    this.raw.end()
  }

  /** Without a word. */
  drop() {
    if (this.ws) this.ws.terminate()
    else this.raw.destroy()
  }
}

/** Serves on a free port. Each handshake is passed to `on`, with its number from 0. */
export async function serve(on, port = 0) {
  const attempts = []
  const sockets = new Set()
  const take = (a) => {
    attempts.push(a)
    Promise.resolve(on(a, attempts.length - 1)).catch((e) => console.error(e))
  }
  const ws = new WebSocketServer({ noServer: true, handleProtocols: (offered) => (offered.has("eventstream.v1") ? "eventstream.v1" : false) })
  const http = createServer((req, res) => {
    if (req.method === "OPTIONS") {
      res.writeHead(204, { "Access-Control-Allow-Origin": req.headers.origin ?? "*", "Access-Control-Allow-Headers": "Authorization, Last-Event-ID, Cache-Control" })
      return res.end()
    }
    take(new Attempt("sse", req, res))
  })
  http.on("upgrade", (req, socket, head) => {
    socket.on("error", () => {})
    socket.on("end", () => socket.destroy())
    take(new Attempt("ws", req, { server: ws, socket, head }))
  })
  http.on("connection", (s) => {
    sockets.add(s)
    s.on("close", () => sockets.delete(s))
  })
  await new Promise((r) => http.listen(port, "127.0.0.1", r))
  const { port: got } = http.address()
  return {
    url: `ws://127.0.0.1:${got}`,
    port: got,
    attempts,
    sockets,
    async close() {
      for (const s of sockets) s.destroy()
      await new Promise((r) => http.close(r))
    },
  }
}
