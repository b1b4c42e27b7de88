package client

import (
	"time"

	"eventstream/wire"
)

// Status is what has become of the connection.
type Status int

// The statuses of a Client.
const (
	Connected    Status = iota + 1 // and the events begin now, or after the Gap that follows
	Resumed                        // connected, and everything since the cursor follows
	Gap                            // connected, but events are missing
	Disconnected                   // connects again after Retry
)

func (s Status) String() string {
	switch s {
	case Connected:
		return "connected"
	case Resumed:
		return "resumed"
	case Gap:
		return "gap"
	case Disconnected:
		return "disconnected"
	}
	return "unknown"
}

// State is a change that Config.OnState is told of.
type State struct {
	Status Status

	SubscriberID string // Connected, Resumed: as the gateway knows it

	Reason string // Gap: one of wire's Gap constants
	From   string // Gap: the cursor after which events are missing
	To     string // Gap: the cursor from which they are complete again

	Missing []wire.Missing // Gap: which events, as far as that can be said

	Err   error         // Disconnected: why
	Retry time.Duration // Disconnected: when the next attempt follows
}
