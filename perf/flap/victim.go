//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"eventstream/perf/visit"
)

// victim is the client whose events are looked at. It stays connected; if its
// connection ends, that is an error.
type victim struct {
	client visit.Client
	done   chan struct{} // closed when nothing comes any more

	mu     sync.Mutex
	at     []int64         // when event n+1 was produced, Unix microseconds; 0 if it has not come
	took   []time.Duration // until it came
	wrong  int             // came twice, or after a later one
	err    error
	latest int // number of the last that came
}

func connect(ctx context.Context, gateway, subscriber string) (*victim, error) {
	v := &victim{done: make(chan struct{})}
	if _, err := v.client.Connect(ctx, gateway, subscriber); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	v.client.Wait(time.Time{})
	go v.read()
	return v, nil
}

// read takes events until the connection ends.
func (v *victim) read() {
	defer close(v.done)
	for {
		m, err := v.client.Read()
		now := time.Now()
		if err == nil && m.Type == "gap" {
			err = fmt.Errorf("told of a gap: %+v", m)
		}
		if err != nil {
			v.mu.Lock()
			v.err = err
			v.mu.Unlock()
			return
		}
		for _, e := range m.Events {
			var data struct {
				Seq int   `json:"seq"`
				At  int64 `json:"at_us"`
			}
			if json.Unmarshal(e.Data, &data) == nil {
				v.got(data.Seq, data.At, now)
			}
		}
	}
}

func (v *victim) got(seq int, at int64, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if seq <= v.latest {
		v.wrong++
		return
	}
	for len(v.at) < seq {
		v.at, v.took = append(v.at, 0), append(v.took, 0)
	}
	v.at[seq-1], v.took[seq-1] = at, now.Sub(time.UnixMicro(at))
	v.latest = seq
}

// await returns when the event came, or the time is over, or the connection has
// ended: then why.
func (v *victim) await(seq int, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(10 * time.Millisecond) {
		v.mu.Lock()
		latest, err := v.latest, v.err
		v.mu.Unlock()
		if latest >= seq || err != nil || time.Now().After(end) {
			return err
		}
	}
}
