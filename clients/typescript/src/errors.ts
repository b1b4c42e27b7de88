/** What an error says beside its message. */
export interface ErrorDetails {
  /** An HTTP status, a close code, or a word such as "network". */
  code?: number | string | undefined
  /** Whether the stream goes on by itself. */
  retryable?: boolean | undefined
  /** Milliseconds that the server asked to wait. */
  retryAfter?: number | undefined
  cause?: unknown
}

/** The base of all errors of this package. */
export class EventStreamError extends Error {
  override name = "EventStreamError"
  code: number | string
  retryable: boolean
  retryAfter: number

  constructor(message: string, { code = "", retryable = false, retryAfter = 0, cause }: ErrorDetails = {}) {
    super(message, { cause })
    this.code = code
    this.retryable = retryable
    this.retryAfter = retryAfter > 0 ? retryAfter : 0
  }
}

/** The token is refused. Thrown by the `token` function it ends the stream for good. */
export class AuthError extends EventStreamError {
  override name = "AuthError"
}

/** The token was revoked, or an operator ended the connection. */
export class RevokedError extends EventStreamError {
  override name = "RevokedError"
}

/** A limit of the gateway is enforced. */
export class LimitError extends EventStreamError {
  override name = "LimitError"
}

/** The client was so slow that what waited for it is past a limit. A gap follows. */
export class TooSlowError extends EventStreamError {
  override name = "TooSlowError"
}

/** The gateway does not take what was sent, or sent what can't be understood. */
export class ProtocolError extends EventStreamError {
  override name = "ProtocolError"
}

/** There is no connection: the network, a gateway that stops, or one that is not ready. */
export class ConnectError extends EventStreamError {
  override name = "ConnectError"
}

const kinds: Record<number | string, typeof EventStreamError> = {
  400: ProtocolError,
  401: AuthError,
  403: AuthError,
  429: LimitError,
  1002: ProtocolError,
  1003: ProtocolError,
  1007: ProtocolError,
  1009: ProtocolError,
  4001: ProtocolError,
  4003: RevokedError,
  4004: AuthError,
  4008: TooSlowError,
  4029: LimitError,
}

/** Returns the error of an HTTP status, a close code, or a word for what else ended a connection. */
export function failure(code: number | string, message: string, retryAfter?: number, cause?: unknown): EventStreamError {
  const retryable = ![400, 403, 4001, 4003].includes(code as number)
  return new (kinds[code] ?? ConnectError)(message, { code, retryable, retryAfter, cause })
}

/** Returns the error of a close frame. A reason may end in how long to wait. */
export function closed(code: number, reason = ""): EventStreamError {
  return failure(code, `closed with ${code} ${reason}`, duration(reason.slice(reason.lastIndexOf(" ") + 1)))
}

const units: Record<string, number> = { h: 3600e3, m: 60e3, s: 1e3, ms: 1 }

/** Returns the milliseconds of a duration such as 1h30m, 1.5s or 35ms; undefined if it is none. */
export function duration(text: string): number | undefined {
  let sum = 0
  const rest = text.replace(/([\d.]+)(h|ms|m|s)/g, (_, n, unit) => ((sum += n * units[unit]!), ""))
  return rest ? undefined : sum
}
