package pipeline

import (
	"context"
	"errors"
	"time"
)

// A service that can't reach the store does nothing for its partitions, and keeps them:
// the group sees only that its members answer Kafka. So it leaves the group for others,
// and comes back when the store answers.

const (
	storeLook    = time.Second     // between two looks whether the store answers
	storeTimeout = 2 * time.Second // for the answer
)

// errAway says that the service has left the group.
var errAway = errors.New("the store can't be reached; the partitions were left to others in the consumer group")

// consume takes part in the group until ctx ends, but while the store can't be reached
// and others could have our partitions.
func (s *Service) consume(ctx context.Context) error {
	for {
		member, leave := context.WithCancel(ctx)
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			defer leave()
			s.watchStore(member)
		}()
		err := s.kafka.Run(member, s.work)
		leave()
		<-watching
		if err != nil || ctx.Err() != nil {
			return err
		}
		s.stayAway(ctx)
	}
}

// watchStore returns when the store has not answered for cfg.LeaveAfter and others are in
// the group, or ctx ends.
func (s *Service) watchStore(ctx context.Context) {
	answered := time.Now()
	for sleep(ctx, storeLook) == nil {
		err := s.storeAnswers(ctx)
		if err == nil || ctx.Err() != nil {
			answered = time.Now()
			continue
		}
		silent := time.Since(answered)
		if silent < s.cfg.LeaveAfter {
			continue
		}
		if members, merr := s.kafka.Members(ctx); merr == nil && members > 1 {
			s.log.Error("the store can't be reached; leaving the consumer group to the others", "for", silent.Round(time.Second), "others", members-1, "err", err)
			return
		}
	}
}

// stayAway waits until the store answers and presence is read: the partitions that others
// leave to us would stand still until then.
func (s *Service) stayAway(ctx context.Context) {
	s.metrics.left.Inc()
	s.away.Store(true)
	defer s.away.Store(false)
	began := time.Now()
	for s.storeAnswers(ctx) != nil || s.prepare(ctx) != nil {
		if sleep(ctx, storeLook) != nil {
			return
		}
	}
	s.log.Info("the store answers again; joining the consumer group", "away", time.Since(began).Round(time.Second))
}

func (s *Service) storeAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := s.lanes.ControlEnd(ctx)
	return err
}
