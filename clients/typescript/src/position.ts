/** A place in a stream: a cursor, and the events that came since, in order. */
export class Position {
  // The gateway sends a cursor within a second of events, so these are few.
  ids: string[] = []
  /**
   * A stream goes on from `cursor`; without one it asks for the same beginning again. What was handled is counted
   * from `base`, which is the hello's cursor then: a gap may follow that, so it is no place to go on from.
   */
  constructor(
    readonly cursor: string,
    readonly base = cursor,
  ) {}
}

/** A place within a position: after its first n events. */
export interface Mark {
  at: Position
  n: number
  /** Counts events, so that a mark can be told from an earlier one. */
  count: number
}

const maxSeen = 4096

/** Returns the newest event of each partition at a mark, as the gateway wants them. */
export function seen({ at, n }: Mark): string {
  const newest: Record<number, string> = {}
  for (const id of at.ids.slice(0, n)) newest[parseInt(id)] = id
  const text = Object.values(newest).join()
  // What is left out comes again, and is dropped.
  return text.length > maxSeen ? text.slice(0, text.lastIndexOf(",", maxSeen)) : text
}

/** Where a stream keeps its place beyond the life of a page. What it keeps is opaque. */
export interface CursorStore {
  load(): string | null | undefined | Promise<string | null | undefined>
  save(cursor: string): unknown
}

/** Keeps the place in localStorage. Where there is none, or it refuses, the place is kept in memory only. */
export function localStorageCursor(key: string): CursorStore {
  return {
    load: () => globalThis.localStorage?.getItem(key),
    save: (cursor) => globalThis.localStorage?.setItem(key, cursor),
  }
}
