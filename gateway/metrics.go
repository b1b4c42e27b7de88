package gateway

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"eventstream/gateway/framing"
)

// metrics of the gateway, beside workerCounts. Its registry puts eventstream_gateway_
// before the names.
type metrics struct {
	active        prometheus.Gauge
	streams       prometheus.Gauge
	refused       *prometheus.CounterVec
	limited       *prometheus.CounterVec
	resumed       prometheus.Counter
	gaps          *prometheus.CounterVec
	behind        prometheus.Counter
	tooSlow, dead prometheus.Counter
	unread        prometheus.Counter
	redisFailures prometheus.Counter
	missed        prometheus.Counter
	malformed     prometheus.Counter
	cutOff        prometheus.Counter
	emptied       prometheus.Counter
	acks          prometheus.Counter
	ackFailures   prometheus.Counter
	acksRefused   prometheus.Counter
	expired       prometheus.Counter
	expelled      prometheus.Counter
	disconnected  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, g *Gateway) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, value func() int64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	gauge("clients_catching_up", "Connections that are being sent what they missed, or were too slow for.", g.player.Playing)
	gauge("ring_bytes", "Bytes of the lanes' latest entries in memory.", g.ringBytes)
	gauge("mailbox_bytes", "Bytes of events that wait for the workers.", g.mailBytes)
	gauge("acks_waiting", "Acknowledgements that are to be saved in the database.", func() int64 { return g.acks.Waiting() })
	gauge("revocations", "Revocations of tokens that are enforced.", func() int64 { return int64(g.revoked.Len()) })
	gauge("revocations_age_seconds", "Time since it was last read from the database which tokens are revoked; 0 if it never was.", func() int64 { return g.revoked.Age() })
	reg.MustRegister(positionAges{g}, workerCounts{g})
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	return &metrics{
		active:        f.NewGauge(prometheus.GaugeOpts{Name: "connections", Help: "Open connections."}),
		streams:       f.NewGauge(prometheus.GaugeOpts{Name: "event_streams", Help: "Open connections that are streams of server-sent events."}),
		refused:       vec("handshakes_refused_total", "Handshakes answered with an HTTP error.", "status"),
		limited:       vec("handshakes_rate_limited_total", "Of these, those that came too often, by what the limit is of: address, subscriber or gateway.", "by"),
		resumed:       counter("resumes_total", "Connections that resumed from a cursor."),
		gaps:          vec("gaps_total", "Gaps that clients were told of.", "reason"),
		behind:        counter("clients_fell_behind_total", "Times that more waited for a client than may, and it was sent to the lanes for it."),
		tooSlow:       counter("slow_clients_closed_total", "Connections closed because what waited for them was past the lanes' retention."),
		dead:          counter("dead_clients_closed_total", "Connections closed because nothing was heard from them."),
		unread:        counter("unread_answers_clients_closed_total", "Connections closed because the client sent messages and did not read the answers, past 64 KiB."),
		redisFailures: counter("redis_failures_total", "Calls to Redis that failed."),
		missed:        counter("lanes_missed_total", "Times that a lane was trimmed before it was read, and all clients were sent away to resume."),
		malformed:     counter("lane_entries_malformed_total", "Times that an entry of the lanes could not be read."),
		emptied:       counter("redis_emptied_total", "Times that Redis was found emptied, or another one in its place."),
		cutOff:        counter("cut_off_total", "Times that Redis did not answer for so long that clients were sent to other gateways."),
		acks:          counter("acks_saved_total", "Acknowledgements saved; of several that a client sends within a moment, the last."),
		expired:       counter("expired_clients_closed_total", "Connections closed because their token had expired."),
		expelled:      counter("revoked_clients_closed_total", "Connections closed because their token was revoked."),
		disconnected:  counter("disconnected_clients_total", "Connections closed because the API was asked to."),
		acksRefused:   counter("acks_refused_total", "Acknowledgements refused because too many waited for the database."),
		ackFailures:   counter("ack_failures_total", "Times that acknowledgements could not be saved, and were kept for later."),
	}
}

// count takes note of connections that have opened, or ended.
func (m *metrics) count(f framing.Kind, n float64) {
	m.active.Add(n)
	if f == framing.EventStream {
		m.streams.Add(n)
	}
}

// ringBytes and mailBytes may be asked at any time.

func (g *Gateway) ringBytes() (n int64) {
	if g.topic.Load() == nil {
		return 0
	}
	for _, r := range g.laneReaders() {
		n += r.Past().Bytes()
	}
	return n
}

func (g *Gateway) mailBytes() (n int64) {
	for _, s := range g.workers {
		s.mu.Lock()
		n += int64(s.mail.size)
		s.mu.Unlock()
	}
	return n
}

// positionAges tells for each partition how long ago a filter service was last
// seen to look after it; of several shards, the oldest.
type positionAges struct{ g *Gateway }

var positionAge = prometheus.NewDesc("lane_position_age_seconds",
	"Time since a partition's position in the lanes was last seen to be looked after: about a second at most, if a filter service does.",
	[]string{"partition"}, nil)

// Describe is for prometheus.Collector.
func (p positionAges) Describe(out chan<- *prometheus.Desc) { out <- positionAge }

// Collect is for prometheus.Collector.
func (p positionAges) Collect(out chan<- prometheus.Metric) {
	topic := p.g.topic.Load()
	if topic == nil {
		return
	}
	ages := make([]time.Duration, topic.Partitions)
	for _, r := range p.g.laneReaders() {
		for i, age := range r.Ages() {
			if i == len(ages) { // they are more since
				break
			}
			ages[i] = max(ages[i], age)
		}
	}
	for i, age := range ages {
		out <- prometheus.MustNewConstMetric(positionAge, prometheus.GaugeValue, age.Seconds(), strconv.Itoa(i))
	}
}
