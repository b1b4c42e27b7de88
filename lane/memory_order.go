package lane

import (
	"context"
	"time"

	"eventstream/event"
)

// memoryOrder is an Order on its way to one gateway.
type memoryOrder struct {
	Order
	answers chan<- Answer // nil if none is wanted; has room for all
}

// Tell is Redis.Tell.
func (m *Memory) Tell(_ context.Context, o Order) error {
	m.tell(o, nil)
	return nil
}

// tell returns the gateways that the order concerns. One that has too many to obey
// already misses it, which Ask notices.
func (m *Memory) tell(o Order, answers chan<- Answer) map[event.Gateway]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := make(map[event.Gateway]bool)
	for g, orders := range m.followers {
		if !o.concerns(g) {
			continue
		}
		told[g] = true
		select {
		case orders <- memoryOrder{o, answers}:
		default:
		}
	}
	return told
}

// Ask is Redis.Ask.
func (m *Memory) Ask(ctx context.Context, o Order, wait time.Duration) (answers []Answer, silent []event.Gateway, err error) {
	came := make(chan Answer, maxOrders)
	waiting := m.tell(o, came)
	over := time.NewTimer(wait)
	defer over.Stop()
	for len(waiting) > 0 {
		select {
		case a := <-came:
			answers = append(answers, a)
			delete(waiting, a.Gateway)
		case <-over.C:
			for g := range waiting {
				silent = append(silent, g)
			}
			return answers, silent, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	return answers, nil, nil
}

// FollowOrders is Redis.FollowOrders.
func (m *Memory) FollowOrders(ctx context.Context, g event.Gateway, do func(Order) Answer) error {
	orders := make(chan memoryOrder, 64)
	m.follow(g, orders)
	defer m.follow(g, nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-orders:
			a := do(o.Order)
			a.Gateway = g
			if o.answers != nil {
				o.answers <- a
			}
		}
	}
}

// follow registers a gateway, or takes it out if orders is nil.
func (m *Memory) follow(g event.Gateway, orders chan memoryOrder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.followers, g)
	if orders == nil {
		return
	}
	if m.followers == nil {
		m.followers = make(map[event.Gateway]chan memoryOrder)
	}
	m.followers[g] = orders
}
