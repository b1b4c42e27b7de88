package cmd

import (
	"context"
	"fmt"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/lane"
)

// sameOwner fails if Redis and PostgreSQL belong to different pipelines: the service
// would write its filters and acknowledgements to another pipeline's database. After a
// topic is created anew, Redis may have the new one first; but soon no filter service
// claims the old one. So it checks at the interval of these claims, and fails only
// after the period that filter services wait, too.
func sameOwner(ctx context.Context, s interface {
	Owner(context.Context) (filter.Owner, error)
}, topic func(context.Context) (lane.Topic, error)) error {
	ask := func() (o filter.Owner, t lane.Topic, err error) {
		ctx, cancel := context.WithTimeout(ctx, filter.OwnerBeat)
		defer cancel()
		if o, err = s.Owner(ctx); err == nil {
			t, err = topic(ctx)
		}
		return o, t, err
	}
	var other *filter.Owner
	var beside event.TopicID
	var since time.Time
	for {
		o, t, err := ask()
		switch {
		case err != nil || o.Topic == t.ID || o.Topic == event.TopicID{}:
			other = nil
		case other == nil || other.Topic != o.Topic || beside != t.ID:
			other, beside, since = &o, t.ID, time.Now()
		case time.Since(since) >= filter.OwnerLapse && o.Seen.Sub(other.Seen) >= filter.OwnerLapse/2:
			return fmt.Errorf("the lanes in Redis are of topic %s (%x), and PostgreSQL is another pipeline's: %w", t.Name, t.ID[:], o.Refuse())
		}
		if !pause(ctx, filter.OwnerBeat) {
			return nil
		}
	}
}
