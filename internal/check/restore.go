package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"eventstream/internal/check/cluster"
	"eventstream/internal/check/judge"
)

// restoreDatabase takes a base backup, has filters change, and puts it in place. What was
// acknowledged since is forgotten. Once filter services have followed, the filters are
// those of the backup.
func restoreDatabase(ctx context.Context, f *fault) error {
	c := f.check.cluster
	readers, free := f.takeThese(filters, filters(c), c.Database(), c.API())
	defer free()
	put, saved, err := f.backUp(ctx)
	if err != nil {
		return err
	}
	pause(ctx, f.hold)

	f.check.changing.Lock()
	defer f.check.changing.Unlock()
	f.begins("postgres")
	server := c.Postgres()
	server.Kill()
	var changes []*judge.Change
	for _, s := range saved {
		changes = append(changes, s.restore(f.check.clock.Now())...)
	}
	for _, c := range f.check.clients {
		c.forget()
	}
	if err := errors.Join(put(ctx), server.Start(ctx)); err != nil {
		return err
	}
	for _, s := range append(readers, c.API()) {
		if err := f.ready(ctx, s); err != nil {
			return err
		}
	}
	if err := f.check.follow(ctx, readers); err != nil {
		return err
	}
	for _, c := range changes {
		c.Answer(f.check.clock.Now())
	}
	return nil
}

// saved is what a subscriber's filters were.
type saved struct {
	of     *subscriber
	was    *judge.Saved
	stored []*stored
}

func (s *saved) restore(at judge.Seq) []*judge.Change {
	s.of.stored = slices.Clone(s.stored)
	return s.was.Restore(at)
}

// backUp makes a backup while no filter changes.
func (f *fault) backUp(ctx context.Context) (put func(context.Context) error, all []saved, err error) {
	f.check.changing.Lock()
	defer f.check.changing.Unlock()
	for _, s := range f.check.subscribers {
		all = append(all, saved{s, s.filters.Save(f.check.clock.Now()), slices.Clone(s.stored)})
	}
	put, err = f.check.cluster.Postgres().Backup(ctx)
	return put, all, err
}

// follow waits until filter services have the filters in memory that the database has.
func (r *run) follow(ctx context.Context, services []*cluster.Service) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for _, s := range r.subscribers {
		for {
			err := r.agree(ctx, s.plan.name, services)
			if err == nil {
				break
			}
			if !pause(ctx, 100*time.Millisecond) {
				return fmt.Errorf("filter services do not follow the database: %w", err)
			}
		}
	}
	return nil
}

// filtersOf are revisions by ID.
type filtersOf []struct {
	ID       string
	Revision int64
}

func (f filtersOf) revisions() map[string]int64 {
	all := make(map[string]int64)
	for _, x := range f {
		all[x.ID] = x.Revision
	}
	return all
}

// agree asks the API what a subscriber's filters are, and what is in memory.
func (r *run) agree(ctx context.Context, subscriber string, services []*cluster.Service) error {
	q := url.Values{"event": {`{"event_type":"login"}`}, "live": {"true"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.cluster.API().Addr+"/subscribers/"+subscriber+"/explain?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	var answer struct {
		Filters filtersOf
		Live    []struct {
			Service, Error string
			Filters        filtersOf
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	want, told := answer.Filters.revisions(), 0
	for _, l := range answer.Live {
		if !slices.ContainsFunc(services, func(s *cluster.Service) bool { return s.Addr == l.Service }) {
			continue // one that was not started yet
		}
		if got := l.Filters.revisions(); l.Error != "" || !maps.Equal(got, want) {
			return fmt.Errorf("%s has %v of %s, %s, want %v", l.Service, got, subscriber, l.Error, want)
		}
		told++
	}
	if told == 0 {
		return errors.New("no filter service answers")
	}
	return nil
}
