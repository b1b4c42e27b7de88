package gateway

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
	"eventstream/gateway/acks"
	"eventstream/gateway/admission"
	"eventstream/gateway/delivery"
	"eventstream/gateway/history"
	"eventstream/gateway/position"
	"eventstream/gateway/presence"
	"eventstream/gateway/reader"
	"eventstream/lane"
	"eventstream/wire"
)

// joins is what a client's join needs.
type joins struct {
	id       event.Gateway
	lanes    Lanes
	kafka    *history.Kafka // nil: nothing is replayed from Kafka
	topics   *topics
	presence *presence.Presence
	acks     *acks.Acks
	delivery *delivery.Delivery
	gate     *gate
	resumed  prometheus.Counter
}

// entrance is a connection that is announced and not open yet.
type entrance struct {
	ask     admission.Ask
	reader  *reader.Reader
	client  *delivery.Client
	first   bool // it is durable, and has never acknowledged anything
	rescan  bool // Kafka is asked for all that it missed
	at      lane.ControlID
	gap     string // reason, if what was asked for can't be had in full
	missing []wire.Missing
	ctx     context.Context    // of the replay: ends with the connection
	stop    context.CancelFunc // ends ctx
	resume  *delivery.Resume   // nil if it has no old seat to follow
	from    []int64            // where it goes on, by partition; nil if it does not resume
	floor   []int64            // what is live begins here; nil if with its seat
	stream  *history.Stream    // to be sent first, up to until; nil if Kafka is not needed
	until   []int64
	spans   []history.Span // of the lanes, to be sent then
}

// old returns the address that e resumes from; the zero one if there is none.
func (e *entrance) old() event.Address {
	if e.resume == nil {
		return event.Address{}
	}
	return e.resume.Old
}

// findFloor waits for where on everything is surely addressed to e's own seat. A
// cursor may come from a gateway that is ahead of us.
func (e *entrance) findFloor(ctx context.Context) ([]int64, error) {
	floor, err := e.reader.Settled(ctx, e.at)
	if err != nil {
		return nil, err
	}
	if cur := e.ask.Cursor; cur != nil {
		return position.Highest(floor, cur.Next), nil
	}
	return slices.Clone(floor), nil
}
