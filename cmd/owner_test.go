package cmd

import (
	"context"
	"errors"
	"testing"
	"time"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/internal/bubble"
	"eventstream/lane"
)

type ownerFunc func() (filter.Owner, error)

func (f ownerFunc) Owner(context.Context) (filter.Owner, error) { return f() }

func TestSameOwner(t *testing.T) {
	ours, others := event.TopicID{1}, event.TopicID{2}
	synced := time.Now()
	at := func(look int) time.Time { return synced.Add(time.Duration(look) * 5 * time.Second) }
	for _, tt := range []struct {
		name  string
		owner func(look int) (filter.Owner, error)
		topic func(look int) (lane.Topic, error)
		want  error
	}{
		{"one pipeline", func(n int) (filter.Owner, error) {
			return filter.Owner{Topic: ours, Seen: at(n)}, nil
		}, nil, nil},
		{"nobody has said yet", func(int) (filter.Owner, error) { return filter.Owner{}, nil }, nil, nil},
		{"PostgreSQL is away", func(int) (filter.Owner, error) { return filter.Owner{}, filter.ErrUnavailable }, nil, nil},
		{"another, which is gone", func(int) (filter.Owner, error) { return filter.Owner{Topic: others, Seen: synced}, nil }, nil, nil},
		{"the topic was made anew", func(n int) (filter.Owner, error) {
			if n < 4 {
				return filter.Owner{Topic: others, Seen: synced}, nil
			}
			return filter.Owner{Topic: ours, Seen: at(n)}, nil
		}, nil, nil},
		{"made anew, and Redis is told last", func(n int) (filter.Owner, error) {
			return filter.Owner{Topic: ours, Seen: at(n)}, nil
		}, func(n int) (lane.Topic, error) {
			if n < 2 {
				return lane.Topic{ID: others}, nil
			}
			return lane.Topic{ID: ours}, nil
		}, nil},
		{"made anew, and some have not noticed for a while", func(n int) (filter.Owner, error) {
			if n < 4 {
				return filter.Owner{Topic: others, Seen: at(n)}, nil
			}
			return filter.Owner{Topic: ours, Seen: at(n)}, nil
		}, nil, nil},
		{"Redis has no topic", func(n int) (filter.Owner, error) {
			return filter.Owner{Topic: others, Seen: at(n)}, nil
		}, func(int) (lane.Topic, error) { return lane.Topic{}, lane.ErrNoTopic }, nil},
		{"another", func(n int) (filter.Owner, error) {
			return filter.Owner{Topic: others, Name: "theirs", Seen: at(n)}, nil
		}, nil, filter.ErrTaken},
		{"another, after an outage", func(n int) (filter.Owner, error) {
			if n < 3 {
				return filter.Owner{}, filter.ErrUnavailable
			}
			return filter.Owner{Topic: others, Seen: at(n)}, nil
		}, nil, filter.ErrTaken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				look := 0
				err := sameOwner(ctx, ownerFunc(func() (filter.Owner, error) {
					look++
					return tt.owner(look)
				}), func(context.Context) (lane.Topic, error) {
					if tt.topic != nil {
						return tt.topic(look)
					}
					return lane.Topic{ID: ours}, nil
				})
				if !errors.Is(err, tt.want) {
					t.Errorf("sameOwner = %v, want %v", err, tt.want)
				}
				if look < 2 || tt.want == nil && look < 9 {
					t.Errorf("it looked %d times", look)
				}
			})
		})
	}
}
