import { duration } from "./errors.js"
import type { CursorStore } from "./position.js"
import type { WebSocketClass } from "./transport.js"

/** Why a token is asked for: "refused" asks for one that is not from a cache. */
export type TokenReason = "connect" | "expiring" | "refused"

/** Where to begin. A cursor goes before since, and since before durable. */
export interface From {
  /** After this place: what `stream.cursor` was. */
  cursor?: string
  /** At this time (a Date, or as in RFC 3339), or so long ago, such as "1h30m". */
  since?: string | Date
  /** After what this subscriber acknowledged last. */
  durable?: boolean
}

export interface Options {
  /** A token, or a function that gets one. The function is asked before every attempt, and before a token ends. */
  token?: string | ((ask: { reason: TokenReason; signal: AbortSignal }) => string | Promise<string>)
  /** For gateways that ask for no token. */
  subscriberId?: string
  /** Where to begin if the `cursor` store has no place yet; with the events from now on if undefined. */
  from?: From
  /** Keeps the place beyond the life of the page. */
  cursor?: CursorStore
  /** "auto" takes WebSockets, and server-sent events where these are blocked. */
  transport?: "auto" | "websocket" | "sse"
  /** "auto" acknowledges what was handled, "manual" what `ack` is called for. "auto" if `from.durable`, otherwise "off". */
  ack?: "auto" | "manual" | "off"
  /** Bounds of the pause before a new attempt, in milliseconds: 500 and 20,000. It is drawn from 0 to min * 2^attempt. */
  backoff?: { min?: number; max?: number }
  /** For a token, and again for a connection up to its hello, in milliseconds; 15,000. */
  timeout?: number
  /** Events that wait to be handled; 1,000. With more the stream pauses, and goes on where it was. */
  maxBuffered?: number
  /** Closes the stream. */
  signal?: AbortSignal
  WebSocket?: WebSocketClass
  fetch?: typeof fetch
}

export type Transport = "websocket" | "sse"

/** Options with what is left out, checked. */
export interface Settings extends Options {
  /** Returns the address of an endpoint, with the query of the one given. */
  endpoint: (transport: Transport) => URL
  ack: "auto" | "manual" | "off"
  min: number
  max: number
  timeout: number
  maxBuffered: number
  /** Where to begin, in milliseconds before now, or as it is said to the gateway. */
  since: number | string | undefined
}

/** Checks options, and throws a TypeError that says what is wrong with them. */
export function settings(url: string | URL, o: Options): Settings {
  const { transport = "auto", from = {}, ack = from.durable ? "auto" : "off", backoff: { min = 500, max = 20_000 } = {}, timeout = 15_000, maxBuffered = 1000 } = o
  const numbers = { min, max, timeout, maxBuffered }
  for (const [name, value] of Object.entries(numbers)) check(value > 0, name, value, "a number above 0")
  check(["auto", "manual", "off"].includes(ack), "ack", ack, "auto, manual or off")
  check(["auto", "websocket", "sse"].includes(transport), "transport", transport, "auto, websocket or sse")
  const Socket = o.WebSocket ?? (globalThis.WebSocket as WebSocketClass | undefined)
  check(Socket || transport !== "websocket", "transport", transport, "the option WebSocket, as there is none here, or auto")
  const settings = { ...o, ...numbers, ack, endpoint: endpoint(url, o), since: since(from.since) }
  return Socket ? { ...settings, transport, WebSocket: Socket } : { ...settings, transport: "sse" }
}

function check(ok: unknown, name: string, value: unknown, want: string): asserts ok {
  if (!ok) throw new TypeError(`${name}: ${value}; want ${want}`)
}

function since(value: string | Date | undefined): number | string | undefined {
  if (value === undefined) return
  const ago = duration(String(value))
  if (ago) return ago
  const at = new Date(value)
  check(+at > 0, "since", value, "a time such as 2026-01-02T03:04:05Z, or a duration such as 1h30m")
  return at.toISOString()
}

function endpoint(url: string | URL, { token, subscriberId }: Options): (transport: Transport) => URL {
  const text = String(url)
  let base: URL | undefined
  try {
    base = new URL(/:\/\//.test(text) ? text : "ws://" + text)
  } catch {
    // Said below, without what may be a token in it.
  }
  const scheme = /^(ws|http)(s?):$/.exec(base?.protocol ?? "")
  check(base && scheme, "url", base?.protocol, "one such as wss://events.example.com")
  const q = base.searchParams
  if (subscriberId) q.set("subscriber_id", subscriberId)
  check(token || q.has("subscriber_id") || q.has("token"), "token", token, "one, or subscriberId")
  // A path that names one of the two has the other beside it.
  const path = base.pathname.replace(/\/(ws|sse)?$/, "")
  return (transport) => {
    const u = new URL(base)
    u.protocol = (transport === "sse" ? "http" : "ws") + scheme[2]
    u.pathname = path + (transport === "sse" ? "/sse" : "/ws")
    u.hash = ""
    return u
  }
}
