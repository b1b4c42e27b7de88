package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// scenario says what one of the scripts in k6/ is run with, unless flags say something else.
type scenario struct {
	name    string
	sockets int
	levels  []int // in place of sockets
	each    bool  // every event is for one socket, not for all
	rate    float64
	hold    time.Duration // of each level
	rest    time.Duration // between levels, for sockets to close; 2s if zero
	phases  int           // how often sockets are held; 1 if zero
	extra   int           // subscribers beside the sockets
	pad     int           // bytes in an event to no purpose
	late    time.Duration // an event that takes longer came too late; 1s if zero
	ring    int           // bytes of latest events that our gateway keeps; its own default if zero
	ours    bool          // needs what the baseline has not
	targets string        // what it is for; ours if empty
}

var scenarios = []scenario{
	{name: "smoke", sockets: 5, extra: 1, rate: 20, hold: 10 * time.Second, late: 10 * time.Second, ours: true},
	{name: "cliff", levels: []int{10, 15, 20, 25, 30, 40, 50, 75, 100}, each: true, rate: 10, hold: 20 * time.Second, rest: 10 * time.Second, targets: "ours,blocking,async"},
	{name: "ramp", levels: []int{100, 1000, 5000, 10000, 18000}, each: true, rate: 500, hold: 40 * time.Second, rest: 10 * time.Second},
	{name: "fanout", sockets: 500, rate: 5, hold: 30 * time.Second},
	{name: "personal", sockets: 1000, each: true, rate: 1000, hold: 30 * time.Second},
	{name: "reconnect-storm", sockets: 1000, rate: 5, hold: 30 * time.Second, rest: 20 * time.Second, ours: true},
	{name: "slow-consumers", sockets: 200, extra: 20, rate: 20, hold: 25 * time.Second, phases: 2, pad: 1000, ours: true},
	// The ring is full in a minute; by default it takes 64 MiB, and at this rate 20 minutes.
	{name: "soak", sockets: 500, each: true, rate: 200, hold: time.Hour, ring: 4 << 20, ours: true},
	{name: "api", rate: 20, hold: 30 * time.Second, ours: true},
}

func find(name string) (scenario, error) {
	var names []string
	for _, s := range scenarios {
		if s.name == name {
			s.rest, s.late = cmp.Or(s.rest, 2*time.Second), cmp.Or(s.late, time.Second)
			return s, nil
		}
		names = append(names, s.name)
	}
	return scenario{}, fmt.Errorf("--scenario %q: there are %s", name, strings.Join(names, ", "))
}

// subscribers returns how many there are at most.
func (s *scenario) subscribers() int {
	if len(s.levels) > 0 {
		return slices.Max(s.levels)
	}
	return s.sockets + s.extra
}

// streams returns how many streams of events there are; 0 means one for all.
func (s *scenario) streams() int {
	if s.each {
		return s.subscribers()
	}
	return 0
}

// length returns how long k6 runs at least.
func (s *scenario) length() time.Duration {
	return time.Duration(max(len(s.levels), s.phases, 1)) * (s.hold + s.rest)
}

// judged returns how many sockets have to be judged by the script.
func (s *scenario) judged() int {
	n := 0
	for _, l := range s.levels {
		n += l
	}
	return n + s.sockets*max(s.phases, 1)
}
