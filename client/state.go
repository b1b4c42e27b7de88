package client

import (
	"time"

	"eventstream/wire"
)

// Status is the state of the connection.
type Status int

// The statuses of a Client.
const (
	Connected    Status = iota + 1 // events start now, or after the Gap that follows
	Resumed                        // connected, and everything since the cursor follows
	Gap                            // connected, but events are missing
	Disconnected                   // reconnects after Retry
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

// State is a change reported to Config.OnState.
type State struct {
	Status Status

	SubscriberID string // Connected, Resumed: as the gateway names it

	Reason string // Gap: one of wire's Gap constants
	From   string // Gap: the cursor after which events are missing
	To     string // Gap: the cursor from which they are complete again

	Missing []wire.Missing // Gap: which events, as far as known

	Err   error         // Disconnected: why
	Retry time.Duration // Disconnected: the pause before the next attempt
}
