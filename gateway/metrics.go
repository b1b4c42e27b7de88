package gateway

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the gateway, beside those of delivery. Its registry puts eventstream_gateway_
// before the names.
type metrics struct {
	refused       *prometheus.CounterVec
	limited       *prometheus.CounterVec
	resumed       prometheus.Counter
	redisFailures prometheus.Counter
	missed        prometheus.Counter
	malformed     prometheus.Counter
	cutOff        prometheus.Counter
	emptied       prometheus.Counter
	acks          prometheus.Counter
	ackFailures   prometheus.Counter
	acksRefused   prometheus.Counter
	disconnected  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	return &metrics{
		refused:       vec("handshakes_refused_total", "Handshakes answered with an HTTP error.", "status"),
		limited:       vec("handshakes_rate_limited_total", "Of these, those that came too often, by what the limit is of: address, subscriber or gateway.", "by"),
		resumed:       counter("resumes_total", "Connections that resumed from a cursor."),
		redisFailures: counter("redis_failures_total", "Calls to Redis that failed."),
		missed:        counter("lanes_missed_total", "Times that a lane was trimmed before it was read, and all clients were sent away to resume."),
		malformed:     counter("lane_entries_malformed_total", "Times that an entry of the lanes could not be read."),
		emptied:       counter("redis_emptied_total", "Times that Redis was found emptied, or another one in its place."),
		cutOff:        counter("cut_off_total", "Times that Redis did not answer for so long that clients were sent to other gateways."),
		acks:          counter("acks_saved_total", "Acknowledgements saved; of several that a client sends within a moment, the last."),
		disconnected:  counter("disconnected_clients_total", "Connections closed because the API was asked to."),
		acksRefused:   counter("acks_refused_total", "Acknowledgements refused because too many waited for the database."),
		ackFailures:   counter("ack_failures_total", "Times that acknowledgements could not be saved, and were kept for later."),
	}
}

// gauge registers a metric whose value may be asked for at any time.
func gauge(reg prometheus.Registerer, name, help string, value func() int64) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
}

// positionAges tells for each partition how long ago a filter service was last
// seen to look after it; of several shards, the oldest.
type positionAges struct{ topics *topics }

var positionAge = prometheus.NewDesc("lane_position_age_seconds",
	"Time since a partition's position in the lanes was last seen to be looked after: about a second at most, if a filter service does.",
	[]string{"partition"}, nil)

// Describe is for prometheus.Collector.
func (p positionAges) Describe(out chan<- *prometheus.Desc) { out <- positionAge }

// Collect is for prometheus.Collector.
func (p positionAges) Collect(out chan<- prometheus.Metric) {
	topic := p.topics.topic.Load()
	if topic == nil {
		return
	}
	ages := make([]time.Duration, topic.Partitions)
	for _, r := range p.topics.laneReaders() {
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
