package admission

import (
	"fmt"
	"net/http"
	"sync"
)

// Connections counts the open connections of each subscriber and address, where they are
// limited.
type Connections struct {
	perSubscriber, perAddress int // 0 for no limit

	mu                      sync.Mutex
	bySubscriber, byAddress map[string]int
}

// NewConnections returns Connections with a limit for each subscriber, and one for each
// address. There is none where it is 0.
func NewConnections(perSubscriber, perAddress int) *Connections {
	return &Connections{
		perSubscriber: perSubscriber, perAddress: perAddress,
		bySubscriber: make(map[string]int), byAddress: make(map[string]int),
	}
}

// Enter counts a connection in, or refuses it.
func (c *Connections) Enter(subscriber, address string) *Refusal {
	if c.perSubscriber == 0 && c.perAddress == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if most := c.perSubscriber; most > 0 && c.bySubscriber[subscriber] >= most {
		return crowded("subscriber", most)
	}
	if most := c.perAddress; most > 0 && c.byAddress[address] >= most {
		return crowded("address", most)
	}
	if c.perSubscriber > 0 {
		c.bySubscriber[subscriber]++
	}
	if c.perAddress > 0 {
		c.byAddress[address]++
	}
	return nil
}

func crowded(what string, most int) *Refusal {
	return &Refusal{
		Status: http.StatusTooManyRequests, Code: "too_many_connections", RetryAfter: 10,
		Detail: fmt.Sprintf("this %s has its limit of %d connections at this gateway", what, most),
	}
}

// Leave counts a connection out.
func (c *Connections) Leave(subscriber, address string) {
	if c.perSubscriber == 0 && c.perAddress == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	leave(c.bySubscriber, subscriber)
	leave(c.byAddress, address)
}

func leave(counts map[string]int, name string) {
	if n, ok := counts[name]; ok && n > 1 {
		counts[name] = n - 1
	} else if ok {
		delete(counts, name)
	}
}

// Counted returns how many subscribers and addresses have connections that are counted.
func (c *Connections) Counted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bySubscriber) + len(c.byAddress)
}
