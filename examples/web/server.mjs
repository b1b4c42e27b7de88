// Serves the page, and passes /ws and /sse to a gateway, as a proxy does in production: so the page and the
// gateway are of one origin.
//
//   node server.mjs [http://127.0.0.1:8003]      PORT=8080
import { readFile } from "node:fs/promises"
import { createServer, request } from "node:http"

const gateway = new URL(process.argv[2] ?? "http://127.0.0.1:8003")
const page = new URL("index.html", import.meta.url)
const client = new URL("../../clients/typescript/dist/", import.meta.url)

const ask = (req) => request({ host: gateway.hostname, port: gateway.port, method: req.method, path: req.url, headers: req.headers })

const server = createServer(async (req, res) => {
  const path = req.url.split("?", 1)[0]
  if (path === "/sse") {
    const asked = ask(req)
    asked.on("response", (answer) => answer.pipe(res.writeHead(answer.statusCode, answer.headers)))
    asked.on("error", () => res.headersSent ? res.destroy() : res.writeHead(502).end())
    res.on("close", () => asked.destroy())
    return asked.end()
  }
  const script = /^\/client\/(\w+\.js)$/.exec(path)?.[1]
  if (path !== "/" && !script) return res.writeHead(404).end()
  try {
    const body = await readFile(script ? new URL(script, client) : page)
    res.writeHead(200, { "Content-Type": script ? "text/javascript" : "text/html" }).end(body)
  } catch {
    res.writeHead(404).end(`${path} is not there: run npm ci && npm run build in clients/typescript\n`)
  }
})

server.on("upgrade", (req, socket) => {
  const asked = ask(req)
  const end = () => socket.destroy()
  socket.on("error", () => asked.destroy())
  socket.on("close", () => asked.destroy())
  asked.on("error", end)
  asked.on("response", (answer) => {
    socket.write(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\nConnection: close\r\n\r\n`)
    answer.on("end", end).pipe(socket)
  })
  asked.on("upgrade", (answer, upstream, head) => {
    const headers = answer.rawHeaders.map((text, i) => text + (i % 2 ? "\r\n" : ": ")).join("")
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}\r\n`)
    socket.write(head)
    upstream.on("error", end).on("close", end)
    socket.on("close", () => upstream.destroy())
    socket.pipe(upstream).pipe(socket)
  })
  asked.end()
})

server.listen(process.env.PORT ?? 8080, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`))
