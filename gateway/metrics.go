package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the gateway. The first two bear the predecessor's names.
type metrics struct {
	active        prometheus.Gauge
	sent          prometheus.Counter
	frames        prometheus.Counter
	latency       prometheus.Histogram
	refused       *prometheus.CounterVec
	resumed       prometheus.Counter
	gaps          *prometheus.CounterVec
	behind        prometheus.Counter
	tooSlow, dead prometheus.Counter
	redisFailures prometheus.Counter
	missed        prometheus.Counter
	acks          prometheus.Counter
	ackFailures   prometheus.Counter
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
		active: f.NewGauge(prometheus.GaugeOpts{Name: "active_websocket_connections", Help: "Open connections."}),
		sent:   counter("events_sent_total", "Events written to sockets, counted once for each recipient."),
		frames: counter("frames_sent_total", "Frames written to sockets."),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name: "event_age_seconds", Help: "Age of an event, since its Kafka record was made, when it is handed to its sockets.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 20),
		}),
		refused:       vec("handshakes_refused_total", "Handshakes answered with an HTTP error.", "status"),
		resumed:       counter("resumes_total", "Connections that resumed from a cursor."),
		gaps:          vec("gaps_total", "Gaps that clients were told of.", "reason"),
		behind:        counter("clients_fell_behind_total", "Times that more waited for a client than may, and it was sent to the lanes for it."),
		tooSlow:       counter("slow_clients_closed_total", "Connections closed because what waited for them was past the lanes' retention."),
		dead:          counter("dead_clients_closed_total", "Connections closed because nothing was heard from them."),
		redisFailures: counter("gateway_redis_failures_total", "Calls to Redis that failed."),
		missed:        counter("lanes_missed_total", "Times that a lane was trimmed before it was read, and all clients were sent away to resume."),
		acks:          counter("acks_saved_total", "Acknowledgements saved; of several that a client sends within a moment, the last."),
		ackFailures:   counter("ack_failures_total", "Times that acknowledgements could not be saved, and were kept for later."),
	}
}
