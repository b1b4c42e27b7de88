package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// watcher looks now and then what a process uses, by its metrics.
type watcher struct {
	url           string
	before, after used
	peak          float64
	end           chan struct{}
	done          chan struct{}
}

// used is the CPU-seconds that a process has used, and its resident bytes.
type used struct{ cpu, rss float64 }

const watchEvery = 200 * time.Millisecond

func watch(addr string) (*watcher, error) {
	w := &watcher{url: "http://" + addr + "/metrics", end: make(chan struct{}), done: make(chan struct{})}
	var err error
	if w.before, err = w.look(); err != nil {
		return nil, fmt.Errorf("metrics of the gateway: %w", err)
	}
	go func() {
		defer close(w.done)
		for {
			if now, err := w.look(); err == nil {
				w.after, w.peak = now, max(w.peak, now.rss)
			}
			select {
			case <-w.end:
				return
			case <-time.After(watchEvery):
			}
		}
	}()
	return w, nil
}

func (w *watcher) look() (u used, err error) {
	resp, err := http.Get(w.url)
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		return u, err
	}
	for _, m := range families["process_cpu_seconds_total"].GetMetric() {
		u.cpu += m.GetCounter().GetValue()
	}
	for _, m := range families["process_resident_memory_bytes"].GetMetric() {
		u.rss += m.GetGauge().GetValue()
	}
	if u.rss == 0 {
		return u, fmt.Errorf("%s: %s, and no process_resident_memory_bytes", w.url, resp.Status)
	}
	return u, nil
}

// stop ends the watching and tells what was used by so many clients.
func (w *watcher) stop(clients int) string {
	time.Sleep(watchEvery) // and one more look
	close(w.end)
	<-w.done
	const mib = 1 << 20
	cpu := w.after.cpu - w.before.cpu
	return fmt.Sprintf("gateway: %.2f CPU-seconds, %.1f µs a client, RSS %.0f MiB, at most %.0f, then %.0f",
		cpu, 1e6*cpu/float64(clients), w.before.rss/mib, w.peak/mib, w.after.rss/mib)
}
