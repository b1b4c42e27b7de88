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
  urls: Record<Transport, URL>
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
  oneOf("transport", transport, ["auto", "websocket", "sse"])
  oneOf("ack", ack, ["auto", "manual", "off"])
  for (const [name, value] of Object.entries({ min, max, timeout, maxBuffered }))
    if (!(value > 0)) throw new TypeError(`${name}: ${value}; want a number above 0`)
  const Socket = o.WebSocket ?? (globalThis.WebSocket as WebSocketClass | undefined)
  if (transport === "websocket" && !Socket) throw new TypeError("transport: there is no WebSocket here; pass the option WebSocket")
  const settings = { ...o, urls: endpoints(url, o), ack, min, max: Math.max(min, max), timeout, maxBuffered, since: since(from.since) }
  return Socket ? { ...settings, transport, WebSocket: Socket } : { ...settings, transport: "sse" }
}

function oneOf(name: string, value: string, allowed: string[]): void {
  if (!allowed.includes(value)) throw new TypeError(`${name}: ${value}; want one of ${allowed}`)
}

function since(value: string | Date | undefined): number | string | undefined {
  if (value === undefined) return
  if (typeof value === "string" && duration(value)) return duration(value)
  const at = new Date(value)
  if (!(+at > 0)) throw new TypeError(`since: ${value}; want a time such as 2026-01-02T03:04:05Z, or a duration such as 1h30m`)
  return at.toISOString()
}

function endpoints(url: string | URL, o: Options): Record<Transport, URL> {
  const text = String(url)
  let base: URL
  try {
    base = new URL(/:\/\//.test(text) ? text : "ws://" + text)
  } catch {
    throw new TypeError("url: want one such as wss://events.example.com")
  }
  const secure = { "ws:": "", "http:": "", "wss:": "s", "https:": "s" }[base.protocol]
  if (secure === undefined) throw new TypeError(`url: scheme ${base.protocol} want ws, wss, http or https`)
  if (o.subscriberId) base.searchParams.set("subscriber_id", o.subscriberId)
  if (!o.token && !base.searchParams.has("subscriber_id") && !base.searchParams.has("token"))
    throw new TypeError("token or subscriberId: want one of them")
  base.hash = ""
  // A path that names one of the two has the other beside it.
  const path = base.pathname.replace(/\/(ws|sse)?$/, "")
  const at = (scheme: string, end: string) => {
    const u = new URL(base)
    u.protocol = scheme + secure
    u.pathname = path + end
    return u
  }
  return { websocket: at("ws", "/ws"), sse: at("http", "/sse") }
}
