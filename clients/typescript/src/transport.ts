import { closed, failure, type EventStreamError } from "./errors.js"
import type { Message, Request } from "./wire.js"

/** What a link tells its connection. */
export interface Sink {
  /** Something came, if only a byte. */
  heard(): void
  message(text: string, id?: string): Message | undefined
  /** The link is over. Nothing follows. */
  ended(error: EventStreamError): void
  /** Resolves when there is room for more. */
  room(): Promise<void> | undefined
}

/** One WebSocket, or one stream. */
export interface Link {
  /** A stream has none: it takes nothing from its client. */
  send?(request: Request): void
  close(): void
}

/** What is used of a WebSocket: the global one has it, and that of the package ws. */
export interface WebSocketLike {
  onmessage: ((event: any) => void) | null
  onclose: ((event: any) => void) | null
  onerror: ((event: any) => void) | null
  send(data: string): void
  close(code?: number): void
}

export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike

export function openWebSocket(Socket: WebSocketClass, url: string, token: string, sink: Sink): Link {
  const protocols = ["eventstream.v1"]
  if (token) protocols.push("bearer." + token)
  const ws = new Socket(url, protocols)
  ws.onmessage = ({ data }) => {
    sink.heard()
    if (typeof data === "string") sink.message(data)
  }
  ws.onerror = () => {} // a close follows; the package ws throws without a handler
  ws.onclose = ({ code, reason }) => sink.ended(closed(code, reason))
  return {
    send: (request) => ws.send(JSON.stringify(request)),
    close: () => ws.close(1000), // also while it connects
  }
}

export function openStream(get: typeof fetch, url: string, token: string, sink: Sink): Link {
  const abort = new AbortController()
  const headers: Record<string, string> = { Accept: "text/event-stream" }
  if (token) headers.Authorization = "Bearer " + token
  get(url, { headers, signal: abort.signal, cache: "no-store" })
    .then((answer) => read(answer, sink))
    .catch((cause) => failure("network", "no connection", 0, cause))
    .then((error) => {
      sink.ended(error)
      abort.abort()
    })
  return { close: () => abort.abort() }
}

const maxLine = 64 << 20

/** Reads a stream to its end, and returns why it ended. */
async function read(answer: Response, sink: Sink): Promise<EventStreamError> {
  const type = answer.headers.get("content-type") ?? ""
  if (answer.status !== 200) {
    const wait = answer.headers.get("retry-after") ?? ""
    const problem = await answer.json().catch(() => {})
    return failure(answer.status, `answered ${answer.status} ${problem?.detail ?? ""}`, +wait * 1000 || Date.parse(wait) - Date.now())
  }
  if (!type.startsWith("text/event-stream") || !answer.body)
    return failure("network", `answered ${type}, not a stream`)
  const reader = answer.body.getReader()
  const decoder = new TextDecoder()
  let [rest, data, id, retry, greeted] = ["", "", "", 0, false]
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return failure("network", "the stream ended")
    sink.heard()
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n")
    rest = lines.pop()!
    if (rest.length > maxLine) return failure(1009, "a message is too large")
    for (const raw of lines) {
      const line = raw.replace(/\r$/, "")
      const [field] = line.split(":", 1)
      const text = line.slice(field!.length + 1).replace(/^ /, "")
      if (field === "data") data += (data && "\n") + text
      else if (field === "id") id = text
      else if (field === "retry") retry = +text
      else if (!line) {
        const m = data ? sink.message(data, id) : undefined
        greeted ||= m?.type === "hello"
        if (m?.type === "close") return closed(m.close_code!, m.reason)
        // Instead of an answer 429 or 503, which an EventSource would not come back from.
        if (m?.type === "error" && !greeted) return failure(/^too_many/.test(m.code!) ? 429 : 503, m.message!, retry)
        ;[data, id, retry] = ["", "", 0]
      }
    }
    await sink.room()
  }
}
