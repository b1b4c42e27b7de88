package api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
)

const (
	countTimeout = 10 * time.Second // all rows are read
	countAgain   = 2 * time.Second  // after a failure, such as that the tables are still to be made
)

// durables counts the durable subscribers every now and then, and gives the
// result to whoever collects metrics. What could not be counted is left out:
// an old number would look like a good one.
type durables struct {
	last                atomic.Pointer[counted]
	number, behind, age *prometheus.Desc
}

type counted struct {
	event.AckTotals
	behindKnown bool
}

func newDurables(reg prometheus.Registerer) *durables {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("eventstream", "api", name), help, nil, nil)
	}
	d := &durables{
		number: desc("durable_subscribers", "Subscribers of which an acknowledgement is kept. All APIs count the same ones."),
		behind: desc("durable_lag_max_offsets", "Offsets in Kafka between what the slowest durable subscriber acknowledged and how far matching has come."),
		age:    desc("durable_ack_age_max_seconds", "Time since the durable subscriber who is silent longest acknowledged last."),
	}
	reg.MustRegister(d)
	return d
}

// Describe implements prometheus.Collector.
func (d *durables) Describe(ch chan<- *prometheus.Desc) {
	ch <- d.number
	ch <- d.behind
	ch <- d.age
}

// Collect implements prometheus.Collector.
func (d *durables) Collect(ch chan<- prometheus.Metric) {
	c := d.last.Load()
	if c == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(d.number, prometheus.GaugeValue, float64(c.Subscribers))
	if c.behindKnown {
		ch <- prometheus.MustNewConstMetric(d.behind, prometheus.GaugeValue, float64(c.MaxBehind))
	}
	age := 0.0
	if !c.Oldest.IsZero() {
		age = max(time.Since(c.Oldest).Seconds(), 0)
	}
	ch <- prometheus.MustNewConstMetric(d.age, prometheus.GaugeValue, age)
}

// countDurables counts until ctx ends.
func (s *Server) countDurables(ctx context.Context) {
	for ctx.Err() == nil {
		wait := s.cfg.CountEvery
		c, err := s.countOnce(ctx)
		if err != nil {
			wait = min(wait, countAgain)
			s.log.Debug("durable subscribers can't be counted", "in", wait, "err", err)
		}
		s.durables.last.Store(c)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *Server) countOnce(ctx context.Context) (*counted, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	brief, stop := context.WithTimeout(ctx, lagTimeout)
	defer stop()
	m := s.matched(brief)
	next, unknown := m.furthest()
	totals, err := s.store.AckTotals(ctx, m.topic.ID, next)
	if err != nil {
		return nil, err
	}
	return &counted{totals, unknown == nil}, nil
}
