//go:build linux

package main

import (
	"time"

	"eventstream/perf/stack"
	"eventstream/perf/usage"
)

// used is what processes used while a scenario ran.
type used struct {
	wall    time.Duration
	parts   []part
	busiest sample // the five seconds in which the machine had the least to spare
}

type part struct {
	name    string
	cpu     time.Duration
	rss     int64 // at the end
	peakRSS int64
}

// sample is some seconds of the machine.
type sample struct {
	busy   float64 // share of all CPUs
	k6     float64 // share of all CPUs
	server float64 // all other parts, share of all CPUs
}

// watcher reads /proc once a second.
type watcher struct {
	parts []stack.Part
	quit  chan struct{}
	done  chan used
}

func watch(parts []stack.Part) *watcher {
	w := &watcher{parts, make(chan struct{}), make(chan used, 1)}
	go w.run()
	return w
}

// stop returns what was used since watch.
func (w *watcher) stop() used {
	close(w.quit)
	return <-w.done
}

// reading is everything at one time.
type reading struct {
	at         time.Time
	busy, idle time.Duration
	parts      []usage.Usage
}

const window = 5 // readings, a second apart

func (w *watcher) run() {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	all := []reading{w.read(nil)}
	for {
		select {
		case <-every.C:
			all = append(all, w.read(all[len(all)-1].parts))
		case <-w.quit:
			w.done <- w.sum(all)
			return
		}
	}
}

// read reads what there is. Of a process that has ended the last reading counts.
func (w *watcher) read(last []usage.Usage) reading {
	r := reading{at: time.Now(), parts: make([]usage.Usage, len(w.parts))}
	r.busy, r.idle, _ = usage.Machine()
	for i, p := range w.parts {
		u, err := usage.Of(p.PID)
		if (err != nil || u.RSS == 0) && last != nil {
			u = last[i]
		}
		r.parts[i] = u
	}
	return r
}

func (w *watcher) sum(all []reading) used {
	first, last := all[0], all[len(all)-1]
	u := used{wall: last.at.Sub(first.at)}
	for i, p := range w.parts {
		end := last.parts[i]
		u.parts = append(u.parts, part{p.Name, end.CPU - first.parts[i].CPU, end.RSS, end.PeakRSS})
	}
	for i := window; i < len(all); i++ {
		if s := between(all[i-window], all[i]); s.busy > u.busiest.busy {
			u.busiest = s
		}
	}
	return u
}

func between(a, b reading) sample {
	busy := b.busy - a.busy
	total := busy + b.idle - a.idle
	if total <= 0 {
		return sample{}
	}
	s := sample{busy: float64(busy) / float64(total)}
	for i := range b.parts {
		share := float64(b.parts[i].CPU-a.parts[i].CPU) / float64(total)
		if i == 0 {
			s.k6 = share
		} else {
			s.server += share
		}
	}
	return s
}

// limit says whether k6 was the limit, and why.
func (u *used) limit() string {
	s := u.busiest
	others := s.busy - s.k6 - s.server
	switch {
	case s.busy >= 0.9 && s.k6 > s.server && s.k6 > others:
		return "k6 is the limit: the machine was full, and k6 used most of it; use perf/swarm"
	case others > 0.3:
		return "the machine was shared: what is no part of this took its time, and latencies are partly theirs"
	case s.busy < 0.9:
		return "the machine had CPU to spare at all times: latencies are the server's"
	}
	return "the machine was full, and the server's processes used more of it than k6"
}
