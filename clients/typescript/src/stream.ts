/// <reference lib="esnext.disposable" preserve="true" />
import { Connection, longest } from "./connection.js"
import { AuthError, EventStreamError, failure } from "./errors.js"
import { settings, type Options, type Settings, type TokenReason, type Transport } from "./options.js"
import { Position, seen, type Mark } from "./position.js"
import { openStream, openWebSocket } from "./transport.js"
import type { Message, Missing } from "./wire.js"

export interface StreamEvent<T> {
  /** partition-offset, the same whenever this event is sent. */
  id: string
  /** The time of its Kafka record. */
  ts: Date
  /** As produced. */
  data: T
}

/** "paused": the buffer is full. The stream goes on when it has been worked off. */
export type State = "idle" | "connecting" | "live" | "waiting" | "paused" | "closed"

export interface StateChange {
  state: State
  previous: State
  /** live: all since the last place follows. Otherwise a gap, or a stream that begins. */
  resumed?: boolean | undefined
  subscriberId?: string | undefined
  transport?: Transport | undefined
  /** waiting, closed: why. */
  error?: EventStreamError | undefined
  /** waiting: when the next attempt begins. */
  retryAt?: Date | undefined
}

/** Events are missing, because the service does not hold them any more. */
export interface Gap {
  reason: string
  from?: string | undefined
  to?: string | undefined
  /** Which events, as far as that can be said. */
  missing?: Missing[] | undefined
}

export interface Events<T> {
  event: StreamEvent<T>
  state: StateChange
  gap: Gap
  /** An acknowledgement is saved. */
  acked: { cursor: string; seen: string | undefined }
  /** Something went wrong, and the stream goes on. */
  error: EventStreamError
  /** It is over: with an error if it was not closed by `close` or a signal. */
  close: { error: EventStreamError | undefined }
}

interface Item<T> {
  mark: Mark
  event?: StreamEvent<T>
  gap?: Gap
}

const mostAsked = 300_000 // or one mistaken answer would silence a client for good
const steady = 5000 // a connection that lasted so long did not fail
const webSocketAgain = 300_000 // while a stream is used instead

/** The events of one subscriber, over all connections: in the order of each partition, each of them once. */
export class EventStream<T = unknown> implements AsyncIterable<StreamEvent<T>>, AsyncDisposable {
  #s: Settings
  #handlers: Record<keyof Events<T>, Set<(arg: any) => unknown>> = {
    event: new Set(),
    state: new Set(),
    gap: new Set(),
    acked: new Set(),
    error: new Set(),
    close: new Set(),
  }
  #state: State = "idle"
  #failure: EventStreamError | undefined
  #over: Promise<void>
  #interrupt = () => {} // ends what the loop waits for
  #sooner = () => {} // shortens a pause
  #connection: Connection | undefined
  #listening = new AbortController()

  // What was received. New connections begin here.
  #at = new Position("")
  #count = 0
  #last: Record<number, bigint> = {} // the highest offset, by partition
  #began = Date.now()
  #restored = ""
  #said = false // in this handshake, what was seen: it may be what is refused
  #bare = false // then the next one does not

  // What waits, and what was handled.
  #queue: Item<T>[] = []
  #roomy: (() => void) | undefined
  #news: Promise<void> | undefined
  #arrived = () => {}
  #pumping = false
  #iterated = false
  #marks = new WeakMap<StreamEvent<T>, Mark>()
  #handed: Mark
  #done: Mark
  #saved: Position
  #saving = true // also until a kept place is loaded, or it would be overwritten
  #ackTimer: ReturnType<typeof setTimeout> | undefined
  #ackSent = ""
  #told = new Set<string>() // warnings that are said once

  #misses = 0 // WebSockets without a hello, in a row
  #lastWebSocket = 0
  #streamFailed = false

  constructor(url: string | URL, options: Options = {}) {
    this.#s = settings(url, options)
    this.#at = this.#saved = new Position(options.from?.cursor ?? "")
    this.#handed = this.#done = this.#mark()
    this.#listen()
    this.#over = this.#run()
    if (options.signal?.aborted) void this.close()
  }

  get state(): State {
    return this.#state
  }

  /** A place: all events before it have been handled. `from: { cursor }` goes on there. */
  get cursor(): string {
    return this.#done.at.base
  }

  /** Resolves when connected: all events produced from then on are matched for this stream. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.#state === "live") resolve()
        else if (this.#isClosed()) reject(this.#failure ?? new EventStreamError("the stream is closed"))
        else return
        off()
      }
      const off = this.on("state", look)
      look()
    })
  }

  /**
   * Has a function called, and returns one that ends this. Events wait until there is a handler of them, or a
   * loop. A handler of events that returns a promise gets the next event when that is settled.
   */
  on<K extends keyof Events<T>>(name: K, handler: (arg: Events<T>[K]) => unknown): () => void {
    const handlers = this.#handlers[name]
    if (!handlers) throw new TypeError(`on: ${name} is not known; want one of ${Object.keys(this.#handlers)}`)
    const own = (arg: Events<T>[K]) => handler(arg) // the same handler twice is two
    handlers.add(own)
    queueMicrotask(() => this.#pump()) // not yet: the caller has nothing to unsubscribe with
    return () => handlers.delete(own)
  }

  /** Acknowledges an event and all before it; without one, all that was handed over. */
  ack(event?: StreamEvent<T>): void {
    const mark = event ? this.#marks.get(event) : this.#handed
    if (!mark) throw new TypeError("ack: want an event of this stream")
    if (mark.count > this.#done.count || !event) this.#handled(mark)
    this.#ackSoon(true)
  }

  /** Connects anew, at once: after somebody else has logged in, for instance. */
  reconnect(): void {
    if (this.#state !== "closed") this.#interrupt()
  }

  /** Ends the stream. It resolves when its socket is closed. */
  close(): Promise<void> {
    if (this.#state !== "closed") {
      this.#ack()
      this.#finish()
      this.#interrupt()
    }
    return this.#over
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Events, one at a time. Leaving the loop closes the stream; an error that ends the stream is thrown. */
  [Symbol.asyncIterator](): AsyncIterator<StreamEvent<T>, undefined> {
    if (this.#iterated) throw new TypeError("a stream can be iterated once")
    this.#iterated = true
    let current: Mark | undefined
    let thrown = false
    const next = async (): Promise<IteratorResult<StreamEvent<T>, undefined>> => {
      if (current && this.#s.ack !== "manual") this.#handled(current)
      current = undefined
      for (;;) {
        const item = this.#take()
        if (item?.event) {
          current = item.mark
          return { done: false, value: item.event }
        }
        if (item) continue
        if (this.#state === "closed") {
          if (this.#failure && !thrown) throw ((thrown = true), this.#failure)
          return { done: true, value: undefined }
        }
        await (this.#news ??= new Promise((resolve) => (this.#arrived = resolve)))
        this.#news = undefined
      }
    }
    return {
      next,
      return: async () => {
        await this.close()
        return { done: true, value: undefined }
      },
    }
  }

  // One attempt after the other: there are never two.
  async #run(): Promise<void> {
    await this.#restore()
    let reason: TokenReason = "connect"
    for (let failures = 0; !this.#isClosed(); ) {
      let interrupted = false
      const wait = new Promise<void>((resolve) => {
        this.#interrupt = () => {
          interrupted = true
          resolve()
        }
      })
      const [error, connection, transport] = await this.#attempt(reason, failures, wait)
      this.#connection = undefined
      if (this.#isClosed()) return
      const since = connection?.since
      failures = since && Date.now() - since > steady ? 0 : failures + 1
      const unknown = connection && !since && transport === "websocket" // a browser does not say why
      const paused = error.code === "paused"
      // A token that was good until now is not the one refused before.
      if (!interrupted && this.#final(error, since ? "connect" : reason)) return this.#finish(error)
      reason = error instanceof AuthError || (unknown && !interrupted) ? "refused" : "connect"
      if (interrupted) continue
      if (paused) await this.#untilRoom()
      else await this.#pause(error, failures - 1)
    }
  }

  async #attempt(reason: TokenReason, failures: number, interrupted: Promise<void>): Promise<[EventStreamError, Connection?, Transport?]> {
    this.#set("connecting")
    let token: string
    try {
      token = await this.#token(reason, interrupted)
    } catch (error) {
      return [error as EventStreamError]
    }
    if (this.#isClosed()) return [failure("interrupted", "interrupted")]
    const transport = this.#transport()
    const url = this.#url(transport, failures)
    let renewal: ReturnType<typeof setTimeout> | undefined // of the token, or of a stream by a WebSocket
    if (transport === "websocket") this.#lastWebSocket = Date.now()
    else if (this.#s.ack !== "off") {
      this.#once("ack", "what is acknowledged waits for a WebSocket: a stream takes nothing")
      if (this.#s.transport === "auto") renewal = setInterval(() => this.#done.count && this.#interrupt(), webSocketAgain)
    }
    const connection: Connection = new Connection(
      {
        room: () => this.#room(),
        message: (m) => {
          if (m.type === "hello") this.#hello(m, transport)
          if (m.type === "token") renew(m.expires! * 1000)
          this.#message(m, connection)
        },
      },
      (sink) => (transport === "websocket" ? openWebSocket(this.#s.WebSocket!, url, token, sink) : openStream(this.#s.fetch ?? fetch, url, token, sink)),
      this.#s.timeout,
    )
    // Sends the next token some time before this one ends, and tries again in what is left if it is refused.
    const renew = (expires: number) => {
      const left = expires - Date.now()
      if (left < 1000 || typeof this.#s.token !== "function" || !connection.talks) return
      clearTimeout(renewal)
      renewal = setTimeout(
        async () => {
          try {
            const next = await this.#token("expiring", connection.ended)
            if (next !== token) connection.send({ type: "token", token: (token = next) })
          } catch (error) {
            if (!connection.talks) return
            if (!(error as EventStreamError).retryable) return connection.cut(error as EventStreamError)
            this.#report(error as EventStreamError)
          }
          renew(expires)
        },
        Math.min(left - Math.min(left / 5, 60_000), longest),
      )
    }
    this.#connection = connection
    void interrupted.then(() => connection.cut(failure("interrupted", "interrupted")))
    const error = await connection.ended
    clearTimeout(renewal)
    if (transport === "websocket") this.#misses = connection.greeted ? 0 : this.#misses + 1
    this.#streamFailed = transport === "sse" && !connection.greeted
    return [error, connection, transport]
  }

  /** Returns a token, or fails with an error of ours. It is asked for before each attempt, whatever began it. */
  async #token(reason: TokenReason, until: Promise<unknown>): Promise<string> {
    const { token, timeout } = this.#s
    if (typeof token !== "function") return token ?? ""
    const abort = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    try {
      const text = await Promise.race([
        token({ reason, signal: abort.signal }),
        until.then(() => Promise.reject(new Error("not needed any more"))),
        new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error("not in time")), timeout))),
      ])
      if (typeof text !== "string" || !/^[\w.~+-]+$/.test(text)) throw new TypeError("want a JWT")
      return text
    } catch (cause) {
      abort.abort(cause)
      if (cause instanceof EventStreamError) throw cause
      throw new EventStreamError("no token: " + (cause as Error)?.message, { code: "token", retryable: true, cause })
    } finally {
      clearTimeout(timer)
    }
  }

  #transport(): Transport {
    const { transport } = this.#s
    if (transport === "websocket" || transport === "sse") return transport
    // WebSockets seem to be blocked. They are tried again now and then, as it may have been an outage.
    const blocked = this.#misses > 1 && !this.#streamFailed && Date.now() - this.#lastWebSocket < webSocketAgain
    return blocked ? "sse" : "websocket"
  }

  #url(transport: Transport, failures: number): string {
    const url = this.#s.endpoint(transport)
    const q = url.searchParams
    const { since, from } = this.#s
    const what = this.#bare || failures > 2 ? "" : seen(this.#mark())
    this.#said = !!(this.#at.cursor && what)
    if (this.#at.cursor) {
      q.set("cursor", this.#at.cursor)
      if (what) q.set("seen", what)
    } else if (since) {
      // A client that gets through at the tenth attempt begins where the first one would have.
      q.set("since", typeof since === "string" ? since : since + Date.now() - this.#began + "ms")
    }
    if (from?.durable) q.set("durable", "true")
    return url.href
  }

  /** Reports whether another attempt would only end the same way. */
  #final(error: EventStreamError, reason: TokenReason): boolean {
    if (error.code === 400 || error.code === 4001) {
      if ((this.#bare = this.#said)) return false
      if (this.#restored) {
        // What was kept is not understood. To fail now would be to fail at each start.
        this.#push({ gap: { reason: "bad_cursor", from: this.#restored }, mark: this.#advance("") })
        this.#restored = ""
        return false
      }
    }
    if (error instanceof AuthError && (reason === "refused" || typeof this.#s.token !== "function")) error.retryable = false
    return !error.retryable
  }

  async #pause(error: EventStreamError, failures: number): Promise<void> {
    const { min, max } = this.#s
    const now = Date.now()
    const asked = Math.min(error.retryAfter, mostAsked)
    let at = now + asked + Math.random() * Math.min(max, min * 2 ** Math.max(failures, 0))
    let timer: ReturnType<typeof setTimeout>
    await new Promise<void>((resolve) => {
      this.#interrupt = resolve
      const arm = () => {
        clearTimeout(timer)
        timer = setTimeout(resolve, at - Date.now())
      }
      this.#sooner = () => {
        at = Math.min(at, now + asked + min)
        arm()
      }
      arm()
      // Last, as a handler may end the pause.
      this.#report(error)
      this.#set("waiting", { error, retryAt: new Date(at) })
    })
    clearTimeout(timer!)
    this.#sooner = () => {}
  }

  #hello(m: Message, transport: Transport): void {
    // What can't be resumed is followed by a gap. Until that has arrived the old place stays, or a
    // disconnection in between would make the gap a silent one. Without a place the same is asked for again.
    if (m.resumed || (!this.#at.cursor && !this.#s.from?.durable && !this.#s.since)) this.#push({ mark: this.#advance(m.cursor) })
    else if (!this.#at.cursor) this.#at = new Position("", m.cursor)
    this.#restored = ""
    this.#bare = false
    this.#ackSent = ""
    this.#set("live", { resumed: !!m.resumed, transport, subscriberId: m.subscriber_id })
    if (this.#done.count) this.#ackSoon(true)
  }

  #message(m: Message, connection: Connection): void {
    switch (m.type) {
      case "events":
        for (const { id, ts, data } of m.events!) this.#receive(id, ts, data as T)
        if (m.cursor) this.#push({ mark: this.#advance(m.cursor) })
        break
      case "cursor":
        this.#push({ mark: this.#advance(m.cursor) })
        break
      case "gap": {
        const { type: _, ...gap } = m
        if (m.reason === "other_topic") this.#last = {} // offsets begin again
        this.#push({ gap: gap as Gap, mark: this.#advance(m.to ?? m.cursor) })
        break
      }
      case "acked":
        void this.#emit("acked", { cursor: m.cursor!, seen: m.seen })
        break
      case "error":
        if (connection.greeted) this.#report(new EventStreamError(m.message!, { code: m.code, retryable: true }))
        if (m.code === "ack_later") {
          this.#ackSent = ""
          this.#ackSoon()
        }
    }
    if (this.#queue.length > this.#s.maxBuffered && connection.talks)
      connection.cut(failure("paused", "the buffer is full"))
    this.#arrived()
    void this.#pump()
  }

  #receive(id: string, ts: number, data: T): void {
    if (!this.#isNew(id)) return // again, at the seam of two connections
    this.#count++
    this.#push({ event: { id, ts: new Date(ts), data }, mark: this.#mark() })
  }

  #isNew(id: string): boolean {
    const [, partition, offset] = /^(\d+)-(\d+)$/.exec(id)! // throws if it is none
    const at = BigInt(offset!) // past 2^53 two numbers may look the same
    if (at <= this.#last[+partition!]!) return false
    this.#last[+partition!] = at
    this.#at.ids.push(id)
    return true
  }

  #mark(): Mark {
    return { at: this.#at, n: this.#at.ids.length, count: this.#count }
  }

  #advance(cursor: string | undefined): Mark {
    if (cursor !== undefined) this.#at = new Position(cursor)
    return this.#mark()
  }

  #push(item: Item<T>): void {
    const end = this.#queue.at(-1)
    if (end && !end.event && !end.gap) this.#queue.pop() // a cursor, and this is past it
    this.#queue.push(item)
  }

  /** Takes what came first. Cursors and gaps are acted on; an event is the caller's. */
  #take(): Item<T> | undefined {
    const item = this.#queue.shift()
    if (!item) return
    if (this.#queue.length <= this.#s.maxBuffered / 2) this.#roomy?.()
    if (item.event) {
      this.#handed = item.mark
      this.#marks.set(item.event, item.mark)
      return item
    }
    if (item.gap) void this.#emit("gap", item.gap)
    // With events before it that are not acknowledged, their own marks come first.
    if (this.#s.ack !== "manual" || this.#done.count >= item.mark.count) this.#handled(item.mark)
    return item
  }

  /** Passes events to handlers, one after the other. */
  async #pump(): Promise<void> {
    if (this.#pumping) return
    this.#pumping = true
    while (!this.#iterated && this.#queue.length && (!this.#queue[0]!.event || this.#handlers.event.size)) {
      const { event, mark } = this.#take()!
      if (!event) continue
      const handling = this.#emit("event", event)
      if (handling) await handling
      if (this.#s.ack !== "manual") this.#handled(mark)
    }
    this.#pumping = false
  }

  #handled(mark: Mark): void {
    this.#done = mark
    if (mark.at !== this.#saved) void this.#save()
    if (this.#s.ack === "auto") this.#ackSoon()
  }

  #room(): Promise<void> | undefined {
    if (this.#queue.length > this.#s.maxBuffered) return new Promise((resolve) => (this.#roomy = resolve))
    return
  }

  async #untilRoom(): Promise<void> {
    if (this.#queue.length <= this.#s.maxBuffered / 2) return
    await new Promise<void>((resolve) => {
      this.#roomy = this.#interrupt = resolve
      this.#set("paused") // last, as a handler may end the pause
    })
  }

  #ackSoon(now = false): void {
    if (this.#s.ack !== "off" && !this.#isClosed()) this.#ackTimer ??= setTimeout(() => this.#ack(), now ? 100 : 1000)
  }

  /** Acknowledges what was handled, unless that was said on this connection. */
  #ack(): void {
    clearTimeout(this.#ackTimer)
    this.#ackTimer = undefined
    const cursor = this.#done.at.base
    if (this.#s.ack === "off" || !cursor || !this.#connection?.talks) return
    const what = seen(this.#done)
    const text = cursor + " " + what
    if (text === this.#ackSent) return
    this.#ackSent = text
    this.#connection.send({ type: "ack", cursor, seen: what || undefined })
  }

  async #restore(): Promise<void> {
    await undefined // the caller adds its handlers first
    try {
      const text = await this.#s.cursor?.load()
      this.#saving = false
      if (!text) return
      const [cursor, ...ids] = text.split(/[ ,]/)
      this.#at = this.#saved = new Position((this.#restored = cursor!))
      for (const id of ids) this.#isNew(id)
      this.#handed = this.#done = this.#mark()
    } catch (cause) {
      this.#once("storage", "the place can't be kept", cause)
    }
  }

  /** Saves the place, and then what it has become meanwhile. */
  async #save(): Promise<void> {
    const store = this.#s.cursor
    if (!store || this.#saving) return
    this.#saving = true
    try {
      for (let text = ""; this.#done.at.base; ) {
        const what = seen(this.#done)
        const now = this.#done.at.base + (what && " " + what)
        if (now === text) break
        text = now
        this.#saved = this.#done.at
        await store.save(text)
      }
    } catch (cause) {
      this.#once("storage", "the place can't be kept", cause)
    }
    this.#saving = false
  }

  /** What shortens a pause, or shows that a connection may be dead, where there are such things. */
  #listen(): void {
    const wake = () => {
      this.#sooner()
      this.#connection?.check(true)
    }
    const page = globalThis.document
    const on = (target: EventTarget | undefined, name: string, act: () => unknown) =>
      target?.addEventListener?.(name, act, { signal: this.#listening.signal })
    on(globalThis, "online", wake)
    on(globalThis, "pageshow", wake)
    on(globalThis, "pagehide", () => this.#save())
    on(page, "visibilitychange", () => page.visibilityState === "visible" && wake())
    on(page, "resume", wake)
    on(this.#s.signal, "abort", () => this.close())
  }

  #set(state: State, more: Partial<StateChange> = {}): void {
    const previous = this.#state
    if (previous === "closed") return
    this.#state = state
    void this.#emit("state", { state, previous, ...more })
  }

  #isClosed(): boolean {
    return this.#state === "closed"
  }

  #finish(error?: EventStreamError): void {
    this.#failure = error
    if (!error) this.#queue = [] // what was not handled comes again
    this.#listening.abort()
    clearTimeout(this.#ackTimer)
    void this.#save()
    this.#set("closed", { error })
    void this.#emit("close", { error })
    this.#arrived()
  }

  #once(code: string, message: string, cause?: unknown): void {
    if (this.#told.has(code)) return
    this.#told.add(code)
    this.#report(new EventStreamError(message, { code, retryable: true, cause }))
  }

  #report(error: EventStreamError): void {
    void this.#emit("error", error)
  }

  /** Calls the handlers. What they throw is reported, and ends nothing. */
  #emit<K extends keyof Events<T>>(name: K, arg: Events<T>[K]): Promise<unknown> | undefined {
    const waits: Promise<unknown>[] = []
    const failed = (cause: unknown) => {
      if (name === "error" || !this.#handlers.error.size) console.error(cause)
      else this.#report(new EventStreamError(`a handler of ${name} failed`, { code: "handler", retryable: true, cause }))
    }
    for (const handler of [...this.#handlers[name]]) {
      try {
        const result = handler(arg) as Promise<unknown> | undefined
        if (typeof result?.then === "function") waits.push(Promise.resolve(result).catch(failed))
      } catch (cause) {
        failed(cause)
      }
    }
    return waits.length ? Promise.all(waits) : undefined
  }
}
