package filter

import (
	"fmt"
	"time"

	"eventstream/event"
)

// Owner is the topic whose pipeline uses a filter store. Filters and acknowledgements belong
// to one: of two, each would serve the other's filters, and overwrite its acknowledgements.
type Owner struct {
	Topic event.TopicID
	Name  string    // the topic's
	Seen  time.Time // when a filter service of it said so last, by the store's clock
}

// Filter services say every OwnerBeat whose the store is. An owner that says nothing for
// OwnerLapse is gone.
const (
	OwnerBeat  = 5 * time.Second
	OwnerLapse = 20 * time.Second
)

// Refuse is the error of another pipeline's service. It says what to do.
func (o Owner) Refuse() error {
	return fmt.Errorf("%w: filter services of topic %s (%x) work with it; give each pipeline a database of its own, or a schema (search_path=… in the address)",
		ErrTaken, o.Name, o.Topic[:])
}
