package format

import "github.com/prometheus/client_golang/prometheus"

type registryMetrics struct {
	requests *prometheus.CounterVec
}

func newRegistryMetrics(reg prometheus.Registerer, known func() float64) *registryMetrics {
	m := &registryMetrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "registry_requests_total", Help: "Schemas asked for at the Schema Registry, by result: ok, unknown (it does not have the id), failed (it can't be used).",
	}, []string{"result"})}
	for _, result := range []string{"ok", "unknown", "failed"} {
		m.requests.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.requests, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "registry_schemas", Help: "Schemas that are kept in memory.",
		}, known))
	}
	return m
}
