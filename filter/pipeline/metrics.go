package pipeline

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"eventstream/filter/index"
	"eventstream/replay"
)

// metrics of the filter service. Its registry puts eventstream_filter_ before the names.
type metrics struct {
	deadLettersOff prometheus.Counter

	read, matched, routed prometheus.Counter
	redisFailures, left   prometheus.Counter
	emptied               prometheus.Counter
	candidates, matches   prometheus.Counter
	digests, costly       prometheus.Counter
	deadLetters           prometheus.Counter
	deadLettersDenied     prometheus.Counter
	tombstones, lost      prometheus.Counter
	skipped               prometheus.Counter
	compared, repaired    prometheus.Counter
	appendSeconds         prometheus.Histogram
	lagEvents             *prometheus.GaugeVec

	replays                                  *prometheus.CounterVec
	replayRecords, replayEvents, replayBytes prometheus.Counter
	replayNoSchema                           prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, r *routes, replays *atomic.Int64) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	gauge("active_subscribers", "Subscribers with at least one seat.", func() int { return r.counts().active })
	gauge("filters", "Filters known.", func() int { return r.counts().filters })
	gauge("filters_indexed", "Filters of active subscribers.", func() int { return r.counts().indexed })
	gauge("conditions", "Different conditions among the filters known.", func() int { return r.counts().conditions })
	gauge("replays_running", "Replays under way.", func() int { return int(replays.Load()) })
	return &metrics{
		read:              counter("events_read_total", "Records taken off Kafka."),
		matched:           counter("events_matched_total", "Events that matched an active subscriber's filter."),
		routed:            counter("events_routed_total", "Recipients that matched events were addressed to."),
		redisFailures:     counter("redis_failures_total", "Calls to Redis that failed."),
		emptied:           counter("redis_emptied_total", "Times that Redis was found emptied, or another one in its place."),
		left:              counter("group_left_total", "Times that the partitions were left to others because Redis could not be reached."),
		candidates:        counter("candidates_total", "Conditions that the index looked at to match events."),
		matches:           counter("matches_total", "Subscribers that events were matched to."),
		digests:           counter("digests_total", "Large attributes of events that were put in order, because much was tried on them."),
		costly:            counter("costly_events_total", "Events that took more work than planned for; the log names the subscriber with the most conditions."),
		deadLettersOff:    counter("dead_letters_off_total", "Records that are no events and were passed over, since dead letters are off."),
		deadLettersDenied: counter("dead_letters_denied_total", "Records that are no events and were passed over, since we may not write dead letters."),
		deadLetters:       counter("events_dead_lettered_total", "Records that are no events and went to the dead-letter topic."),
		tombstones:        counter("events_tombstones_total", "Records without a value, which are skipped."),
		skipped:           counter("skipped_offsets_total", "Offsets that an operator had a lane pass over."),
		lost:              counter("kafka_lost_offsets_total", "Offsets that Kafka lost and gives a second time, each time that a filter service found out."),
		compared:          counter("comparisons_total", "Comparisons of all filters with the filter store."),
		repaired:          counter("repairs_total", "Filters that were not as in the filter store, though no change was on its way, and were read again."),
		appendSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "lane_append_seconds", Help: "Time of an append to a lane.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		lagEvents: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kafka_lag_events", Help: "Events in the partition that are not done yet.",
		}, []string{"partition"}),
		replays: f.NewCounterVec(prometheus.CounterOpts{
			Name: "replays_total", Help: "Replays that ended: complete, refused (not served at all, or not now), or broken off.",
		}, []string{"result"}),
		replayRecords: counter("replay_records_total", "Records that replays read, each once for all who share a pass."),
		replayEvents:  counter("replay_events_total", "Events that replays passed on."),
		replayBytes:   counter("replay_bytes_total", "Bytes of the events that replays passed on."),
		replayNoSchema: counter("replay_records_without_schema_total",
			"Records that replays passed over, as the Schema Registry does not have their schema. They may have been events when they were new."),
	}
}

// replayed notes how a replay ended.
func (m *metrics) replayed(err error) {
	result := "broken"
	switch {
	case err == nil:
		result = "complete"
	case replay.Refused(err):
		result = "refused"
	}
	m.replays.WithLabelValues(result).Inc()
}

// lag notes how many events of a partition wait.
func (m *metrics) lag(partition int32, n int64) {
	m.lagEvents.WithLabelValues(strconv.Itoa(int(partition))).Set(float64(max(n, 0)))
}

// tell adds what m has counted since it was told last.
func (m *metrics) tell(c *index.Matcher) {
	m.candidates.Add(float64(c.Candidates))
	m.matches.Add(float64(c.Matches))
	m.digests.Add(float64(c.Digests))
	c.Candidates, c.Matches, c.Digests = 0, 0, 0
}

// unassigned forgets a partition that another process works on now.
func (m *metrics) unassigned(partition int32) {
	m.lagEvents.DeleteLabelValues(strconv.Itoa(int(partition)))
}
