package api

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// slots limits how much long-running work is under way, in total and for one caller,
// which is an API key, or an address where no key is required.
type slots struct {
	what       string // in the plural
	most, each int
	refused    *prometheus.CounterVec

	mu    sync.Mutex
	taken int
	of    map[string]int // by caller
}

func newSlots(what string, most, each int, m *metrics) *slots {
	return &slots{what: what, most: most, each: each, refused: m.slotsRefused.MustCurryWith(prometheus.Labels{"of": what}), of: make(map[string]int)}
}

// take takes a slot for the caller of a request, or fails with the problem full if none
// is left. The caller must call free once.
func (s *slots) take(ctx *fasthttp.RequestCtx, full kind) (free func(), err error) {
	caller, _ := ctx.UserValue(callerKey).(string)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken >= s.most:
		s.refused.WithLabelValues("all").Inc()
		return nil, &problem{kind: full, detail: fmt.Sprintf("%d %s are under way, which is the most", s.most, s.what)}
	case s.of[caller] >= s.each:
		s.refused.WithLabelValues("caller").Inc()
		ctx.Response.Header.Set("Retry-After", retryAfter)
		return nil, &problem{kind: crowded, detail: fmt.Sprintf("%d %s of this key or address are under way, which is the most for one", s.each, s.what)}
	}
	s.taken++
	s.of[caller]++
	return func() { s.free(caller) }, nil
}

func (s *slots) free(caller string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.of[caller]--; s.of[caller] == 0 {
		delete(s.of, caller)
	}
}
