package api

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventstream/event"
)

const (
	countTimeout = time.Minute     // all rows are read
	countAgain   = 2 * time.Second // after a failure, for example because the tables do not exist yet
	countShare   = 50              // at most 1/50 of the time is spent counting
	countMost    = 10 * time.Minute
)

// durables exports metrics of the durable subscribers. They are counted only when
// metrics are collected, and rarely enough to limit the cost; Collect returns the last
// count. If counting failed, the metrics are left out: a stale number would look valid.
type durables struct {
	last                     atomic.Pointer[counted]
	asked                    chan struct{} // metrics were collected since the last count; capacity 1
	number, behind, age, old *prometheus.Desc
}

type counted struct {
	event.AckTotals
	behindKnown bool
	at          time.Time
}

func newDurables(reg prometheus.Registerer) *durables {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, nil, nil)
	}
	d := &durables{
		asked:  make(chan struct{}, 1),
		number: desc("durable_subscribers", "Subscribers of which an acknowledgement is kept. All APIs count the same ones."),
		behind: desc("durable_lag_max_offsets", "Offsets in Kafka between what the slowest durable subscriber acknowledged and how far matching has come."),
		age:    desc("durable_ack_age_max_seconds", "Time since the durable subscriber who is silent longest acknowledged last."),
		old:    desc("durable_counted_age_seconds", "Time since durable subscribers were counted, for the metrics of them. The more there are, the less often they are."),
	}
	reg.MustRegister(d)
	return d
}

// Describe implements prometheus.Collector.
func (d *durables) Describe(ch chan<- *prometheus.Desc) {
	ch <- d.number
	ch <- d.behind
	ch <- d.age
	ch <- d.old
}

// Collect implements prometheus.Collector.
func (d *durables) Collect(ch chan<- prometheus.Metric) {
	select {
	case d.asked <- struct{}{}:
	default:
	}
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
	ch <- prometheus.MustNewConstMetric(d.old, prometheus.GaugeValue, time.Since(c.at).Seconds())
}

// countDurables counts at the start, and then whenever metrics are collected, until ctx
// ends. Two counts are at least CountEvery apart, and 50 times what the last one took.
func (s *Server) countDurables(ctx context.Context) {
	for ctx.Err() == nil {
		c, took, err := s.countOnce(ctx)
		wait := s.cfg.CountEvery
		if err != nil {
			wait = min(wait, countAgain)
			s.log.Debug("durable subscribers can't be counted", "err", err)
		}
		s.durables.last.Store(c)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait, min(countShare*took, countMost))):
		}
		select {
		case <-ctx.Done():
		case <-s.durables.asked:
		}
	}
}

// countOnce counts, and returns how long the store took.
func (s *Server) countOnce(ctx context.Context) (c *counted, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	brief, stop := context.WithTimeout(ctx, lagTimeout)
	defer stop()
	m := s.matched(brief)
	next, unknown := m.furthest()
	began := time.Now()
	totals, err := s.store.AckTotals(ctx, m.topic.ID, next)
	if took = time.Since(began); err != nil {
		return nil, took, err
	}
	return &counted{totals, unknown == nil, time.Now()}, took, nil
}
