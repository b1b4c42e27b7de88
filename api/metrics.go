package api

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the API. The registry prefixes their names.
type metrics struct {
	requests        *prometheus.CounterVec
	seconds         *prometheus.HistogramVec
	publishFailures prometheus.Counter
	importLines     prometheus.Counter
	slotsRefused    *prometheus.CounterVec
	slow            *prometheus.CounterVec
	panics          prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "requests_total",
			Help: "Requests answered, by route and status.",
		}, []string{"route", "status"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "request_seconds",
			Help: "Time from a request's arrival to its answer, by route.",
		}, []string{"route"}),
		importLines: f.NewCounter(prometheus.CounterOpts{
			Name: "import_lines_total",
			Help: "Filters read from the bodies of imports, whatever became of them.",
		}),
		slotsRefused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "slots_refused_total",
			Help: "Imports and streams refused because too many were under way, in all or of one caller.",
		}, []string{"of", "by"}),
		slow: f.NewCounterVec(prometheus.CounterOpts{
			Name: "slow_clients_total",
			Help: "Imports and streams cut off because their client was slower than the least rate.",
		}, []string{"of"}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "panics_total",
			Help: "Requests at which a handler panicked: a mistake of ours, which the log has with its stack. They were answered 500.",
		}),
		publishFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "publish_failures_total",
			Help: "Stored changes of which the filter service could not be told (answered with 202).",
		}),
	}
}

func (m *metrics) count(route string, status int) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
}
