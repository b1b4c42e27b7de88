package delivery

import (
	"cmp"
	"runtime"

	"eventstream/auth"
	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/admission"
	"eventstream/gateway/history"
	"eventstream/internal/watchdog"
)

// Config is what a Delivery needs.
type Config struct {
	Gateway     event.Gateway
	Workers     int   // GOMAXPROCS if zero
	MaxPending  int   // bytes of events that may wait for one client; past that it falls behind
	Heartbeat   int64 // a quiet connection gets a message this often, in seconds
	DeadAfter   int64 // for so many seconds a client may give no sign of life
	MessageRate int   // messages a second of one client, on average over ten; no limit if zero

	Acks     *acks.Acks
	Renewals *admission.Renewals
	Player   *history.Player    // of what clients missed
	Watchdog *watchdog.Watchdog // may be nil

	Revoked func(subscriber string, p auth.Pass) bool         // nil if there are no tokens
	Left    func(subscriber, address string, seat event.Seat) // a connection has ended
}

func (cfg Config) withDefaults() Config {
	cfg.Workers = cmp.Or(cfg.Workers, runtime.GOMAXPROCS(0))
	return cfg
}
