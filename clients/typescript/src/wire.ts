/** A range of events that are not sent: those with ids partition-from to partition-(to - 1). */
export interface Missing {
  partition: number
  from: number
  to: number
}

/** A message of the gateway. Unknown types, and unknown fields, are ignored. */
export interface Message {
  type: string
  subscriber_id?: string
  cursor?: string
  resumed?: boolean
  heartbeat_s?: number
  events?: { id: string; ts: number; data: unknown }[]
  from?: string
  to?: string
  reason?: string
  missing?: Missing[]
  expires?: number
  close_code?: number
  seen?: string
  code?: string
  message?: string
}

/** A message to the gateway. */
export type Request =
  | { type: "ping" }
  | { type: "token"; token: string }
  | { type: "ack"; cursor: string; seen: string | undefined }
