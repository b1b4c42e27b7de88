package main

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// cpu is the CPU time of the process so far, of all its threads. Unlike time on
// the clock it doesn't pass while others have the machine.
func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // the arguments are right
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// heap is the bytes in use.
func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// subject is an engine to be measured with certain events.
type subject struct {
	engine engine
	events []int
	want   int // pairs in these events
	passes int // over the events, for one sample
}

// sampleCPU is how much CPU time a sample takes at least.
const sampleCPU = 100 * time.Millisecond

// newSubject finds out how many passes over the events one sample needs.
func newSubject(e engine, events []int) *subject {
	s := &subject{engine: e, events: events, passes: 1}
	for {
		start := cpu()
		for range s.passes {
			s.want = e.match(events)
		}
		if took := cpu() - start; took > sampleCPU/4 {
			s.passes = int(1 + sampleCPU*time.Duration(s.passes)/took)
			return s
		}
		s.passes *= 2
	}
}

// sample is the CPU nanoseconds per event, measured once.
func (s *subject) sample() (float64, error) {
	runtime.GC() // not what the one before has left
	start := cpu()
	for range s.passes {
		if n := s.engine.match(s.events); n != s.want {
			return 0, fmt.Errorf("%d matches, want %d as before", n, s.want)
		}
	}
	return float64(cpu()-start) / float64(s.passes*len(s.events)), nil
}

// result is what an event costs a subject.
type result struct {
	nanos float64 // of CPU time: the median of the rounds
	ratio float64 // to the first subject in the same round: the median
}

// interleave measures the subjects in turn, so that the noise hits all of them.
func interleave(rounds int, subjects ...*subject) ([]result, error) {
	nanos := make([][]float64, len(subjects))
	ratios := make([][]float64, len(subjects))
	for range rounds {
		for i, s := range subjects {
			n, err := s.sample()
			if err != nil {
				return nil, err
			}
			nanos[i] = append(nanos[i], n)
			ratios[i] = append(ratios[i], n/nanos[0][len(nanos[0])-1])
		}
	}
	results := make([]result, len(subjects))
	for i := range subjects {
		results[i] = result{median(nanos[i]), median(ratios[i])}
	}
	return results, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// footprint is what it takes to hold a filter.
type footprint struct {
	bytes float64 // of heap that stay
	nanos float64 // of CPU time to make it, from its text
}

// weigh builds an engine, several times for the median, and lets it go.
func weigh(c contender, w workload, times int) (footprint, error) {
	var bytes, nanos []float64
	n := float64(len(w.queries))
	for range times {
		before, start := heap(), cpu()
		e, err := c.build(w)
		if err != nil {
			return footprint{}, err
		}
		nanos = append(nanos, float64(cpu()-start)/n)
		bytes = append(bytes, float64(heap()-before)/n)
		e.close()
	}
	runtime.KeepAlive(w) // what it holds is not the engine's
	return footprint{median(bytes), median(nanos)}, nil
}
