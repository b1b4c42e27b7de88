package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"eventstream/filter"
	"eventstream/internal/check/judge"
)

// subscriber has filters and, unless it is restful, changes them now and then.
type subscriber struct {
	check   *run
	plan    subscriberPlan
	rng     *rand.Rand
	filters judge.Filters
	stored  []*stored
}

// stored is one filter as the API knows it.
type stored struct {
	slot *judge.Slot
	id   filter.ID
}

// maxFilters bounds the filters of a subscriber.
const maxFilters = 4

// subscribe makes all filters of the start.
func (r *run) subscribe(ctx context.Context) error {
	for i, p := range r.plan.subscribers {
		s := &subscriber{check: r, plan: p, rng: r.plan.rng(streamSubscribers + uint64(i))}
		for _, n := range p.filters {
			if err := s.add(ctx, n); err != nil {
				return err
			}
			if len(s.stored) == 0 || s.stored[len(s.stored)-1].id == "" {
				return errors.New("the filter API did not take a filter before the check began")
			}
		}
		r.subscribers = append(r.subscribers, s)
	}
	return nil
}

// change changes filters until over ends. A request that is under way then is
// waited for, unless ctx ends: its fate would be unknown.
func (s *subscriber) change(ctx, over context.Context) error {
	if s.plan.restful {
		return nil
	}
	for pause(over, between(s.rng, time.Second, 8*time.Second)) {
		if err := s.changeOne(ctx, over); err != nil {
			return err
		}
	}
	return nil
}

func (s *subscriber) changeOne(ctx, over context.Context) error {
	s.check.changing.RLock()
	defer s.check.changing.RUnlock()
	n, what := s.rng.IntN(len(s.check.plan.pool)), s.rng.IntN(3)
	switch {
	case len(s.stored) == 0 || what == 0 && len(s.stored) < maxFilters:
		return s.add(ctx, n)
	case what == 1 && len(s.stored) > 1:
		return s.remove(ctx, over, s.rng.IntN(len(s.stored)))
	}
	return s.replace(ctx, over, s.rng.IntN(len(s.stored)), n)
}

// outcome is what became of a request.
type outcome int

const (
	unknown outcome = iota // it may have been done, and may still be
	refused                // it was not done
	waiting                // it was done, and will be in force some time
	done                   // it is in force
)

func (s *subscriber) add(ctx context.Context, n int) error {
	slot := s.filters.Slot()
	change := slot.Ask(s.check.clock.Now(), s.check.plan.pool[n])
	what, id, err := s.ask(ctx, http.MethodPost, "", s.check.plan.pool[n])
	if what == waiting || what == done {
		s.stored = append(s.stored, &stored{slot, id})
	}
	s.came(slot, change, what)
	return err // one whose fate is unknown may be there, and stays
}

func (s *subscriber) replace(ctx, over context.Context, i, n int) error {
	f := s.stored[i]
	change := f.slot.Ask(s.check.clock.Now(), s.check.plan.pool[n])
	what, _, err := s.ask(ctx, http.MethodPut, "/"+string(f.id), s.check.plan.pool[n])
	s.came(f.slot, change, what)
	if what == unknown && err == nil {
		// It could still be done after the next change: only without the filter
		// is its state known again.
		return s.remove(ctx, over, i)
	}
	return err
}

// remove deletes a filter. Whatever becomes of that, nothing more is asked of it.
func (s *subscriber) remove(ctx, over context.Context, i int) error {
	f := s.stored[i]
	s.stored = append(s.stored[:i], s.stored[i+1:]...)
	for {
		change := f.slot.Ask(s.check.clock.Now(), nil)
		what, _, err := s.ask(ctx, http.MethodDelete, "/"+string(f.id), nil)
		if what == refused {
			what = unknown // nobody was reached; it is asked again
		}
		s.came(f.slot, change, what)
		if what != unknown || err != nil || !pause(over, time.Second) {
			return err
		}
	}
}

func (s *subscriber) came(slot *judge.Slot, change *judge.Change, what outcome) {
	switch what {
	case done:
		change.Answer(s.check.clock.Now())
	case refused:
		slot.Refuse(change)
	}
}

// askLimit bounds one request to the API.
const askLimit = 10 * time.Second

// ask makes one request of the API. The error is of the kind that ends the check.
func (s *subscriber) ask(ctx context.Context, method, path string, spec *filter.Spec) (outcome, filter.ID, error) {
	var body io.Reader
	if spec != nil {
		own := *spec
		own.SubscriberID = s.plan.name
		text, err := json.Marshal(own)
		if err != nil {
			return refused, "", fmt.Errorf("filter of our own: %w", err)
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.check.cluster.API().Addr+"/filters"+path, body)
	if err != nil {
		return refused, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			return refused, "", nil
		}
		return unknown, "", nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return unknown, "", nil
	}
	return judgeAnswer(method, resp.StatusCode, answer)
}

func judgeAnswer(method string, status int, answer []byte) (outcome, filter.ID, error) {
	var f struct {
		ID filter.ID `json:"id"`
	}
	if status != http.StatusNoContent && status < 300 {
		if err := json.Unmarshal(answer, &f); err != nil {
			return unknown, "", fmt.Errorf("answer of the filter API to %s: %w: %s", method, err, answer)
		}
	}
	switch {
	case status == http.StatusAccepted:
		return waiting, f.ID, nil
	case status < 300:
		return done, f.ID, nil
	case status == http.StatusNotFound && method == http.MethodDelete:
		return waiting, "", nil // it is gone already, by a request whose answer did not come
	case status < 500:
		return refused, "", fmt.Errorf("the filter API refused %s with %d: %s", method, status, answer)
	}
	return unknown, "", nil
}
