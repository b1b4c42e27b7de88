package cmd

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
)

// metrics is the registry of a service. It prefixes all names with
// eventstream_<service>_, so packages register theirs without a prefix.
type metrics struct {
	prometheus.Registerer
	prometheus.Gatherer
}

func newMetrics(service, version string) metrics {
	reg := prometheus.NewRegistry()
	addProcessMetrics(reg, version)
	return metrics{prefixed(service, reg), prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := reg.Gather()
		return withPredecessor(families), err
	})}
}

func prefixed(service string, reg prometheus.Registerer) prometheus.Registerer {
	return prometheus.WrapRegistererWithPrefix("eventstream_"+service+"_", reg)
}

// addProcessMetrics adds the metrics that all processes have.
func addProcessMetrics(reg prometheus.Registerer, version string) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "eventstream_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// predecessor maps metrics to their names in the predecessor, whose dashboards use them.
var predecessor = map[string]string{
	"eventstream_filter_events_read_total":    "events_read_total",
	"eventstream_filter_events_matched_total": "events_matched_total",
	"eventstream_filter_events_routed_total":  "events_routed_total",
	"eventstream_filter_redis_failures_total": "redis_failures_total",
	"eventstream_filter_active_subscribers":   "active_streams_count",
	"eventstream_gateway_connections":         "active_websocket_connections",
	"eventstream_gateway_events_sent_total":   "events_sent_total",
}

// withPredecessor adds these metrics under the predecessor's names, too.
func withPredecessor(families []*dto.MetricFamily) []*dto.MetricFamily {
	for _, f := range families {
		if old, ok := predecessor[f.GetName()]; ok {
			help := "The same as " + f.GetName() + "."
			families = append(families, &dto.MetricFamily{Name: &old, Help: &help, Type: f.Type, Metric: f.Metric})
		}
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families
}
