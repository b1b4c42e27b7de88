package filter

import (
	"fmt"
	"time"

	"eventstream/event"
)

// Owner is the topic whose pipeline uses a filter store. A store belongs to one topic: two
// pipelines would serve each other's filters and overwrite each other's acknowledgements.
type Owner struct {
	Topic event.TopicID
	Name  string    // the topic's
	Seen  time.Time // when a filter service of it last renewed its claim, by the store's clock
}

// Filter services renew their topic's claim on the store every OwnerBeat. After OwnerLapse
// without a renewal the store has no owner.
const (
	OwnerBeat  = 5 * time.Second
	OwnerLapse = 20 * time.Second
)

// Refuse returns the error for a service of another pipeline, with what to do about it.
func (o Owner) Refuse() error {
	return fmt.Errorf("%w: filter services of topic %s (%x) work with it; give each pipeline a database of its own, or a schema (search_path=… in the address)",
		ErrTaken, o.Name, o.Topic[:])
}
