import { createContext, createElement, useContext, useEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from "react"
import { EventStream, type State, type StreamEvent } from "./stream.js"
import type { Options } from "./options.js"

const lingers = 1000 // StrictMode, and a change of pages, unmount what is mounted again at once

/** One stream for all who use it: made with the first of them, closed some time after the last. */
class Shared {
  stream: EventStream<any> | null = null
  #users = 0
  #closing: ReturnType<typeof setTimeout> | undefined

  constructor(
    readonly url: string,
    readonly options: Options | undefined,
  ) {}

  /** Returns the stream, and a function to call when it is not needed any more. Only effects call it: nothing connects on a server. */
  use(): [stream: EventStream<any>, release: () => void] {
    clearTimeout(this.#closing)
    this.#users++
    this.stream ??= new EventStream(this.url, this.options)
    return [this.stream, () => this.#release()]
  }

  #release(): void {
    if (--this.#users > 0) return
    this.#closing = setTimeout(() => {
      void this.stream?.close()
      this.stream = null
    }, lingers)
  }

  // Of one identity each, as useSyncExternalStore subscribes anew otherwise.
  subscribe = (changed: () => void): (() => void) => {
    const [stream, release] = this.use()
    const off = stream.on("state", changed)
    return () => {
      off()
      release()
    }
  }
  state = (): State => this.stream?.state ?? "idle"
  current = (): EventStream<any> | null => this.stream
}

const Context = createContext<Shared | null>(null)

export interface EventStreamProviderProps {
  url: string
  /** Read when the stream is made. Another `key` of the provider makes another stream. */
  options?: Options
  children?: ReactNode
}

/** Gives those below it one stream, which is open for as long as this is mounted. */
export function EventStreamProvider({ url, options, children }: EventStreamProviderProps): ReactNode {
  const first = useRef(options)
  const shared = useMemo(() => new Shared(url, first.current), [url])
  useEffect(() => shared.use()[1], [shared])
  return createElement(Context.Provider, { value: shared }, children)
}

function useShared(): Shared {
  const shared = useContext(Context)
  if (!shared) throw new TypeError("there is no <EventStreamProvider> above this component")
  return shared
}

/** Returns the stream; null on a server, and before it is mounted. */
export function useEventStream<T = unknown>(): EventStream<T> | null {
  const shared = useShared()
  return useSyncExternalStore(shared.subscribe, shared.current, () => null)
}

/** Has a function called with each event, always the newest one given. A promise that it returns holds the next event back. */
export function useEvents<T = unknown>(handler: (event: StreamEvent<T>) => unknown): void {
  const shared = useShared()
  const newest = useRef(handler)
  useEffect(() => {
    newest.current = handler
  })
  useEffect(() => {
    const [stream, release] = shared.use()
    const off = stream.on("event", (e) => newest.current(e))
    return () => {
      off()
      release()
    }
  }, [shared])
}

/** Returns what a function makes of the last events, the newest last; what it makes undefined is left out. */
export function useLatest<T = unknown, V = StreamEvent<T>>(select?: (event: StreamEvent<T>) => V | undefined, { limit = 100 }: { limit?: number } = {}): readonly V[] {
  const [values, set] = useState<readonly V[]>([])
  useEvents<T>((event) => {
    const value = select ? select(event) : (event as V)
    if (value !== undefined) set((before) => [...before, value].slice(-limit))
  })
  return values
}

/** Returns the state of the connection; "idle" on a server. */
export function useConnectionState(): State {
  const shared = useShared()
  return useSyncExternalStore(shared.subscribe, shared.state, () => "idle")
}
