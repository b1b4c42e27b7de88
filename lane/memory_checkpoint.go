package lane

import (
	"maps"
	"slices"

	"eventstream/event"
)

// Checkpoint is what a Memory held at a time.
type Checkpoint struct {
	epoch   string
	topic   *Topic
	lanes   map[memoryKey]*memoryLane
	control memoryControl
}

// Checkpoint keeps what the store holds now, for Rollback.
func (m *Memory) Checkpoint() *Checkpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &Checkpoint{m.epoch, m.topic, m.lanes, m.memoryControl}
	return c.clone()
}

// Rollback puts back what the store held at a checkpoint, as a Redis does that
// comes back without its last writes. The IDs of the control stream go on from
// the highest ever used: Redis takes them from its clock, which goes on. Hashes of
// gateways expire when they would have: Redis keeps the times. A lane that
// was to be retired is kept. A checkpoint can be gone back to several times.
func (m *Memory) Rollback(to *Checkpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := to.clone()
	c.control.used = m.used
	for _, l := range m.lanes {
		l.keep()
	}
	m.epoch, m.topic, m.lanes, m.memoryControl = c.epoch, c.topic, c.lanes, c.control
}

// clone copies all that a Memory changes in place: the blobs of entries are not.
func (c *Checkpoint) clone() *Checkpoint {
	d := &Checkpoint{c.epoch, c.topic, make(map[memoryKey]*memoryLane, len(c.lanes)), c.control}
	for key, l := range c.lanes {
		copied := *l
		copied.entries, copied.retired = slices.Clone(l.entries), nil
		d.lanes[key] = &copied
	}
	d.control.entries = slices.Clone(c.control.entries)
	d.control.gateways = make(map[event.Gateway]*memoryGateway, len(c.control.gateways))
	for g, h := range c.control.gateways {
		d.control.gateways[g] = &memoryGateway{h.seq, maps.Clone(h.seats), h.expires}
	}
	return d
}
