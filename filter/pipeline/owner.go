package pipeline

import (
	"context"
	"errors"
	"slices"
	"time"

	"eventstream/event"
	"eventstream/filter"
)

// ownership is what a service knows of whose the filter store is. One goroutine uses it.
type ownership struct {
	seen  filter.Owner // when it was looked at last
	since time.Time    // it has not been renewed, as far as was seen
}

// own says that the filter store is ours: filters and acknowledgements belong to one
// topic. The error is filter.ErrTaken while it is another's. A topic that was made anew is in the
// place of the one before, which we know if we served it, or if its lanes are in Redis.
func (s *Service) own(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	now, err := s.filters.Owner(ctx)
	if err != nil {
		s.owner.seen = filter.Owner{} // while it is away its owner can't say so either
		return err
	}
	if now != s.owner.seen {
		s.owner = ownership{now, time.Now()}
		if s.isOurs(now.Topic) && now.Topic == s.topic.Load().ID {
			return nil // another one of us has just said so
		}
	}
	if now.Topic != (event.TopicID{}) && !s.isOurs(now.Topic) && time.Since(s.owner.since) < filter.OwnerLapse {
		return now.Refuse()
	}
	t := s.topic.Load()
	set, err := s.filters.SetOwner(ctx, t.ID, t.Name, now)
	switch {
	case err != nil: // where nothing can be written nobody else can say so
		return nil
	case !s.isOurs(set.Topic): // another one was faster
		return set.Refuse()
	}
	s.owner = ownership{set, time.Now()}
	return nil
}

// isOurs reports whether a topic is ours, or one that ours is in the place of.
func (s *Service) isOurs(id event.TopicID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.topics, id)
}

// keepOwning says so all the time. If we could not for so long that others took us for
// gone, both work until somebody ends one. That is told from the second look on: when a
// topic is made anew, others of us may know sooner.
func (s *Service) keepOwning(ctx context.Context) error {
	looks := 0
	for sleep(ctx, filter.OwnerBeat) == nil {
		err := s.own(ctx)
		switch {
		case errors.Is(err, filter.ErrTaken):
			if looks++; looks == 2 {
				s.log.Error("another pipeline works with our filter store", "err", err)
				s.taken.Store(&err)
			}
		case err == nil:
			if looks = 0; s.taken.Swap(nil) != nil {
				s.log.Info("the filter store is ours again")
			}
		} // the look for changes tells that it is away
	}
	return nil
}
