package delivery

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are what a worker counts with each write. A counter that all workers
// share would cost them more than the rest of their work.
type counts struct {
	sent   atomic.Int64 // events
	frames atomic.Int64

	ages  [ageBuckets + 1]atomic.Int64 // frames by the age of their oldest event; the last one is for what is older
	total atomic.Int64                 // of these ages, in ms
}

// ageBuckets is how many bounds there are; each is twice the one before.
const (
	ageBuckets = 20
	firstAge   = 0.0005 // seconds
)

// maxAge bounds the age that is counted, in ms: the time of an event is its
// producer's word, and a few of 1970 would be all that there is in the sum.
const maxAge = 24 * 60 * 60 * 1000

// age counts a frame whose oldest event is so old: milliseconds are all that
// Kafka tells.
func (c *counts) age(ms int64) {
	ms = min(max(ms, 0), maxAge)
	i := 0
	if ms > 0 {
		i = min(ageBuckets, int(math.Ceil(math.Log2(float64(ms)/1000/firstAge))))
	}
	c.ages[i].Add(1)
	c.total.Add(ms)
}

// allCounts tells all workers' counts.
type allCounts []*counts

var (
	sentDesc   = prometheus.NewDesc("events_sent_total", "Events written to sockets, counted once for each recipient.", nil, nil)
	framesDesc = prometheus.NewDesc("frames_sent_total", "Frames written to sockets.", nil, nil)
	ageDesc    = prometheus.NewDesc("event_age_seconds",
		"Time from Kafka's timestamp to the write to the socket, of the oldest event in each frame that is not of a replay.", nil, nil)
)

// Describe is for prometheus.Collector.
func (a allCounts) Describe(out chan<- *prometheus.Desc) {
	out <- sentDesc
	out <- framesDesc
	out <- ageDesc
}

// Collect is for prometheus.Collector.
func (a allCounts) Collect(out chan<- prometheus.Metric) {
	sum := func(of func(*counts) *atomic.Int64) (n float64) {
		for _, c := range a {
			n += float64(of(c).Load())
		}
		return n
	}
	out <- prometheus.MustNewConstMetric(sentDesc, prometheus.CounterValue, sum(func(c *counts) *atomic.Int64 { return &c.sent }))
	out <- prometheus.MustNewConstMetric(framesDesc, prometheus.CounterValue, sum(func(c *counts) *atomic.Int64 { return &c.frames }))
	buckets, below := make(map[float64]uint64, ageBuckets), uint64(0)
	for i, bound := range prometheus.ExponentialBuckets(firstAge, 2, ageBuckets) {
		below += uint64(sum(func(c *counts) *atomic.Int64 { return &c.ages[i] }))
		buckets[bound] = below
	}
	all := below + uint64(sum(func(c *counts) *atomic.Int64 { return &c.ages[ageBuckets] }))
	seconds := sum(func(c *counts) *atomic.Int64 { return &c.total }) * time.Millisecond.Seconds()
	out <- prometheus.MustNewConstHistogram(ageDesc, all, seconds, buckets)
}
