import { failure, type EventStreamError } from "./errors.js"
import type { Link, Sink } from "./transport.js"
import type { Message, Request } from "./wire.js"

const closeTimeout = 1000 // for the answer to our close
export const longest = 2 ** 31 - 1 // a longer timer fires at once

/** What a connection needs of its stream. */
export interface Owner {
  /** Acts on a message. Throws if it can't be understood. */
  message(m: Message): void
  room(): Promise<void> | undefined
}

/** One connection: from its handshake to its end, which it finds by itself if the network does not tell. */
export class Connection {
  greeted = false
  /** When there was a hello. */
  since = 0
  /** Resolves with why it ended, when its socket is closed. */
  readonly ended: Promise<EventStreamError>
  #link: Link | undefined
  #end!: (error: EventStreamError) => void
  #cut: EventStreamError | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #heard = Date.now()
  #asked = 0 // when a sign of life was waited for; 0 if it is not
  #heartbeat = 0
  #full = false

  constructor(owner: Owner, open: (sink: Sink) => Link, timeout: number) {
    this.ended = new Promise((resolve) => (this.#end = resolve))
    this.#timer = setTimeout(() => this.cut(failure("timeout", "no hello in time")), timeout)
    const ended = (error: EventStreamError) => {
      clearTimeout(this.#timer)
      this.#cut ??= error
      this.#end(this.#cut)
    }
    try {
      this.#link = open({
        heard: () => this.#touch(),
        message: (text, id) => this.#message(owner, text, id),
        ended,
        room: () => this.#room(owner),
      })
    } catch (cause) {
      ended(failure("network", "no connection", 0, cause))
    }
  }

  /** Whether the gateway takes messages on this connection. */
  get talks(): boolean {
    return this.greeted && !this.#cut && !!this.#link?.send
  }

  send(request: Request): void {
    if (this.talks) this.#link!.send!(request)
  }

  /** Ends the connection for a reason of ours. Nothing is passed on after that. */
  cut(error: EventStreamError): void {
    if (this.#cut) return
    this.#cut = error
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#end(error), closeTimeout)
    this.#link?.close()
  }

  /**
   * Looks whether the connection is alive. Only bytes count, not timers: those of a page that was hidden or
   * asleep fire late. So there is always one more wait, after a question to the gateway, before it is given up.
   */
  check(soon = false): void {
    if (!this.greeted || this.#cut) return
    clearTimeout(this.#timer)
    const now = Date.now()
    const silence = this.#full ? 0 : now - this.#heard
    const talks = this.#link?.send // a stream can't be asked, so it gets more time
    const patience = talks && soon ? closeTimeout : this.#heartbeat * (talks ? 1.2 : 2) + 1000
    const answer = Math.min(this.#heartbeat, 10_000)
    if (silence < patience) this.#asked = 0
    else if (!this.#asked) {
      this.#asked = now
      this.send({ type: "ping" })
    } else if (now - this.#asked >= answer) {
      return this.cut(failure("timeout", "nothing is heard from the gateway"))
    }
    this.#timer = setTimeout(() => this.check(), Math.min(this.#asked ? answer : Math.max(patience - silence, 100), longest))
  }

  #touch(): void {
    this.#heard = Date.now()
    this.#asked = 0
  }

  #message(owner: Owner, text: string, id?: string): Message | undefined {
    if (this.#cut) return
    try {
      const m: Message = JSON.parse(text)
      if (m.type === "events" && id) m.cursor ??= id
      if (m.type === "hello") {
        this.greeted = true
        this.since = Date.now()
        this.#heartbeat = (m.heartbeat_s || 60) * 1000
        this.check()
      }
      owner.message(m)
      return m
    } catch (cause) {
      this.cut(failure(1002, "a message can't be understood", 0, cause))
    }
    return
  }

  async #room(owner: Owner): Promise<void> {
    const room = owner.room()
    if (!room) return
    this.#full = true // nothing is read, so silence proves nothing
    await Promise.race([room, this.ended])
    this.#full = false
    this.#touch()
  }
}
