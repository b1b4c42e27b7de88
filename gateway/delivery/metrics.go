package delivery

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"eventstream/gateway/framing"
)

// metrics of delivery, beside counts.
type metrics struct {
	active        prometheus.Gauge
	streams       prometheus.Gauge
	gaps          *prometheus.CounterVec
	behind        prometheus.Counter
	tooSlow, dead prometheus.Counter
	unread        prometheus.Counter
	expired       prometheus.Counter
	expelled      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		active:   f.NewGauge(prometheus.GaugeOpts{Name: "connections", Help: "Open connections."}),
		streams:  f.NewGauge(prometheus.GaugeOpts{Name: "event_streams", Help: "Open connections that are streams of server-sent events."}),
		gaps:     f.NewCounterVec(prometheus.CounterOpts{Name: "gaps_total", Help: "Gaps that clients were told of."}, []string{"reason"}),
		behind:   counter("clients_fell_behind_total", "Times that more waited for a client than may, and it was sent to the lanes for it."),
		tooSlow:  counter("slow_clients_closed_total", "Connections closed because what waited for them was past the lanes' retention."),
		dead:     counter("dead_clients_closed_total", "Connections closed because nothing was heard from them."),
		unread:   counter("unread_answers_clients_closed_total", "Connections closed because the client sent messages and did not read the answers, past 64 KiB."),
		expired:  counter("expired_clients_closed_total", "Connections closed because their token had expired."),
		expelled: counter("revoked_clients_closed_total", "Connections closed because their token was revoked."),
	}
}

// count takes note of connections that have opened, or ended.
func (m *metrics) count(f framing.Kind, n float64) {
	m.active.Add(n)
	if f == framing.EventStream {
		m.streams.Add(n)
	}
}
