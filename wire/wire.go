// Package wire defines the protocol between gateway and client over a WebSocket: JSON
// text frames, one message each, and close codes. A stream of server-sent events has
// the same messages, from the gateway only.
//
// The gateway sends hello first, and then events without being asked. A client need not
// send anything. Clients must ignore messages of unknown types, and unknown fields.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"eventstream/event"
)

// Version is the version of the protocol, which hello contains. docs/reference/protocol.md
// says when it changes.
const Version = 1

// Types of the messages from the gateway.
const (
	Hello  = "hello"  // every event produced from now on is matched for this connection
	Events = "events" // one or more events, in order of each partition
	Cursor = "cursor" // all events up to here have been sent
	Gap    = "gap"    // events are missing, for one of the Gap reasons
	Error  = "error"  // the client's message was rejected
	Pong   = "pong"   // answer to ping
	Acked  = "acked"  // answer to ack: the cursor is saved
	Token  = "token"  // when the client's token expires; from the client: a new token
	Close  = "close"  // the last message of a stream of server-sent events, instead of a close frame
)

// Close codes besides those of RFC 6455. 1001 is sent when the gateway drains:
// reconnect, with the last cursor.
const (
	CloseDrain      = 1001
	CloseBadRequest = 4001 // reserved
	CloseNotAllowed = 4003 // the token was revoked, or an operator closed the connection: do not reconnect automatically
	CloseExpired    = 4004 // the token has expired: reconnect with a new one, and the last cursor
	CloseTooSlow    = 4008 // unsent events are past retention: reconnect with the last cursor, and get the gap
	CloseTooMany    = 4029 // the client sends too much
)

// Reasons of a Gap.
const (
	GapTrimmed        = "trimmed"         // the events are past Kafka's retention
	GapLimit          = "replay_limit"    // older, or more, than the operator's limit of replays
	GapUnknownAddress = "unknown_address" // the cursor's connection ended longer ago than the resume window, or was another subscriber's, and there is no replay from Kafka
	GapLost           = "kafka_lost"      // Kafka lost the events, or reuses their offsets: the new ones are not sent, since an id never means two events
	GapSkipped        = "skipped"         // an operator of the service had the events skipped
	GapCompacted      = "compacted"       // the topic is compacted: Kafka removed records of the range, which may have been events; others of it are sent
	GapTooLarge       = "too_large"       // the event is larger than the client's limit
	GapOtherTopic     = "other_topic"     // the cursor is of a topic that was deleted and created again
)

// Message is a message from the gateway, as a client decodes it.
type Message struct {
	Type string `json:"type"`

	SubscriberID string `json:"subscriber_id,omitempty"` // hello
	Cursor       string `json:"cursor,omitempty"`        // hello, cursor, gap, sometimes events: the position after this message. acked: that of the ack
	Resumed      bool   `json:"resumed,omitempty"`       // hello: everything since the client's cursor follows
	HeartbeatS   int    `json:"heartbeat_s,omitempty"`   // hello: something is sent at least this often, in seconds
	Protocol     int    `json:"protocol,omitempty"`      // hello: Version; 0 from older gateways

	Events []Event `json:"events,omitempty"`

	From    string    `json:"from,omitempty"`    // gap: the client's cursor
	To      string    `json:"to,omitempty"`      // gap: where events continue, as Cursor
	Reason  string    `json:"reason,omitempty"`  // also of close
	Missing []Missing `json:"missing,omitempty"` // gap: which events, as far as known

	Expires int64 `json:"expires,omitempty"` // token: when it expires, Unix seconds

	CloseCode int `json:"close_code,omitempty"` // close

	Seen string `json:"seen,omitempty"` // acked: as in the ack

	Code string `json:"code,omitempty"` // error
	Text string `json:"message,omitempty"`
}

// Missing is a range of events that are not sent, whether or not they match:
// those with IDs <partition>-<From> to <partition>-<To - 1>.
type Missing struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
}

// Event is an event in an events message.
type Event struct {
	ID   string          `json:"id"`   // <partition>-<offset>, the same whenever this event is sent
	TS   int64           `json:"ts"`   // time of its Kafka record, Unix milliseconds
	Data json.RawMessage `json:"data"` // as produced
}

// AppendHello appends a hello message.
func AppendHello(b []byte, subscriber, cursor string, resumed bool, heartbeatS int) []byte {
	b = append(b, `{"type":"hello","subscriber_id":`...)
	b = appendString(b, subscriber)
	b = append(b, `,"cursor":"`...)
	b = append(b, cursor...)
	b = append(b, `","resumed":`...)
	b = strconv.AppendBool(b, resumed)
	b = append(b, `,"heartbeat_s":`...)
	b = strconv.AppendInt(b, int64(heartbeatS), 10)
	b = append(b, `,"protocol":`...)
	b = strconv.AppendInt(b, Version, 10)
	return append(b, '}')
}

// AppendEvent appends one event of an events message. It is encoded once and
// shared by all recipients.
func AppendEvent(b []byte, id event.ID, tsMs int64, data []byte) []byte {
	b = append(b, `{"id":"`...)
	b = id.Append(b)
	b = append(b, `","ts":`...)
	b = strconv.AppendInt(b, tsMs, 10)
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return append(b, '}')
}

// AppendEventsHead begins an events message. Events follow, separated by
// commas, and then EventsTail.
func AppendEventsHead(b []byte) []byte { return append(b, `{"type":"events","events":[`...) }

// EventsTail ends an events message.
const EventsTail = `]}`

// AppendEventsTail ends an events message with a cursor.
func AppendEventsTail(b []byte, cursor string) []byte {
	b = append(b, `],"cursor":"`...)
	b = append(b, cursor...)
	return append(b, `"}`...)
}

// AppendCursor appends a cursor message.
func AppendCursor(b []byte, cursor string) []byte {
	b = append(b, `{"type":"cursor","cursor":"`...)
	b = append(b, cursor...)
	return append(b, `"}`...)
}

// AppendGap appends a gap message. from and to are cursors, from may be "";
// reason is one of the Gap constants. to is in it twice: clients before version 1 know it
// by that name alone.
func AppendGap(b []byte, from, to, reason string, missing []Missing) []byte {
	b = append(b, `{"type":"gap"`...)
	if from != "" {
		b = append(b, `,"from":"`...)
		b = append(b, from...)
		b = append(b, '"')
	}
	b = append(b, `,"cursor":"`...)
	b = append(b, to...)
	b = append(b, `","to":"`...)
	b = append(b, to...)
	b = append(b, `","reason":"`...)
	b = append(b, reason...)
	b = append(b, '"')
	if len(missing) > 0 {
		ranges, _ := json.Marshal(missing) // numbers always marshal
		b = append(b, `,"missing":`...)
		b = append(b, ranges...)
	}
	return append(b, '}')
}

// AppendAcked appends the answer to an ack, with its cursor and seen, which may be "".
func AppendAcked(b []byte, cursor, seen string) []byte {
	b = append(b, `{"type":"acked","cursor":"`...)
	b = append(b, cursor...)
	if seen != "" {
		b = append(b, `","seen":"`...)
		b = append(b, seen...)
	}
	return append(b, `"}`...)
}

// AppendToken appends a token message.
func AppendToken(b []byte, expires int64) []byte {
	b = append(b, `{"type":"token","expires":`...)
	b = strconv.AppendInt(b, expires, 10)
	return append(b, '}')
}

// AppendClose appends a close message, with the fields of a close frame.
func AppendClose(b []byte, code int, reason string) []byte {
	b = append(b, `{"type":"close","close_code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"reason":`...)
	b = appendString(b, reason)
	return append(b, '}')
}

// AppendError appends an error message.
func AppendError(b []byte, code, message string) []byte {
	b = append(b, `{"type":"error","code":`...)
	b = appendString(b, code)
	b = append(b, `,"message":`...)
	b = appendString(b, message)
	return append(b, '}')
}

// PongMessage answers a client's ping.
const PongMessage = `{"type":"pong"}`

func appendString(b []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string always marshals
	return append(b, quoted...)
}

// Request is a message from a client.
type Request struct {
	Type   string `json:"type"`   // "ping", "ack" or "token"
	Cursor string `json:"cursor"` // ack: everything before it is handled
	Seen   string `json:"seen"`   // ack: also everything up to these event ids, one for each partition with newer events; may be ""
	Token  string `json:"token"`  // token: replaces the current one
}

// Types of Request. Ping is answered by pong, for clients that can't send WebSocket
// pings, such as browsers. Ack is answered by acked, when it is saved. Token, also a
// type of the gateway's messages, is answered by a token, or by an error; then the
// previous token stays valid.
const (
	Ping = "ping"
	Ack  = "ack"
)

// ErrRequest reports a client's message that can't be parsed.
var ErrRequest = errors.New("message not understood")

// ParseRequest decodes a client's message. Errors wrap ErrRequest and
// are sent to the client.
func ParseRequest(b []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(b, &r); err != nil {
		return Request{}, fmt.Errorf(`%w: want a JSON object such as {"type":"ping"}`, ErrRequest)
	}
	switch {
	case r.Type == Ack && r.Cursor == "":
		return Request{}, fmt.Errorf(`%w: ack without a cursor; want {"type":"ack","cursor":"…"}`, ErrRequest)
	case r.Type == Token && r.Token == "":
		return Request{}, fmt.Errorf(`%w: token without a token; want {"type":"token","token":"…"}`, ErrRequest)
	case r.Type != Ping && r.Type != Ack && r.Type != Token:
		return Request{}, fmt.Errorf(`%w: type %.40q; allowed are "ping", "ack" and "token"`, ErrRequest, r.Type)
	}
	return r, nil
}
