package api

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/valyala/fasthttp"

	"eventstream/internal/ops"
	"eventstream/limit"
)

// LimitConfig limits the rate of requests. The zero value limits nothing.
type LimitConfig struct {
	PerKey     int         // requests a second with one API key; no limit if zero
	PerAddress int         // from one address without a valid key; no limit if zero
	Redis      limit.Redis // shares the limit among all API processes; if nil, each counts by itself
	Proxies    ops.Proxies // trusted to name the client's address
}

// limits enforces the rate limits.
type limits struct {
	cfg     LimitConfig
	shared  *limit.Shared
	refused *prometheus.CounterVec
}

func newLimits(cfg LimitConfig, reg prometheus.Registerer) *limits {
	l := &limits{cfg: cfg, shared: limit.NewShared(cfg.Redis)}
	f := promauto.With(reg)
	l.refused = f.NewCounterVec(prometheus.CounterOpts{
		Name: "rate_limited_total",
		Help: "Requests answered with 429, by what the limit is of: key or address.",
	}, []string{"by"})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rate_limit_local",
		Help: "1 while Redis does not answer and this process counts requests by itself.",
	}, func() float64 {
		if l.shared.Alone() {
			return 1
		}
		return 0
	})
	return l
}

// callerKey is the user value of a request that holds its caller's name.
const callerKey = "caller"

// take charges one request to the key with this ID, or to the address if key is "".
func (l *limits) take(ctx *fasthttp.RequestCtx, key string) error {
	name := "k:" + key
	if key == "" {
		name = "a:" + ops.Household(l.address(ctx))
	}
	ctx.SetUserValue(callerKey, name)
	return l.takeMore(ctx, 1)
}

// takeMore charges more requests to a caller that take has charged already. It charges
// at most half of a second's limit, so that every request remains possible.
func (l *limits) takeMore(ctx *fasthttp.RequestCtx, more int) error {
	name, _ := ctx.UserValue(callerKey).(string)
	by, n := "key", l.cfg.PerKey
	if !strings.HasPrefix(name, "k:") {
		by, n = "address", l.cfg.PerAddress
	}
	if more = min(more, max(n/2, 1)); n == 0 || more == 0 {
		return nil
	}
	d := l.shared.TakeN(ctx, name, limit.Rate{N: n, Per: time.Second}, more)
	h := &ctx.Response.Header
	h.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;w=1`, by, n))
	h.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, by, d.Left, seconds(d.Full)))
	if d.OK {
		return nil
	}
	l.refused.WithLabelValues(by).Inc()
	h.Set("Retry-After", strconv.Itoa(seconds(cmp.Or(d.Retry, time.Second))))
	detail := fmt.Sprintf("the limit of this %s is %d requests a second", by, n)
	if more > 1 {
		detail += fmt.Sprintf(", and this one counts as %d more", more)
	}
	return &problem{kind: tooMany, detail: detail}
}

// seconds rounds up, so that a client that waits so long is not refused again.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// address returns the client's address.
func (l *limits) address(ctx *fasthttp.RequestCtx) netip.Addr {
	peer, ok := ctx.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.IPv6Unspecified()
	}
	var forwarded []string
	if len(l.cfg.Proxies) > 0 {
		for _, line := range ctx.Request.Header.PeekAll("X-Forwarded-For") {
			forwarded = append(forwarded, string(line))
		}
	}
	return l.cfg.Proxies.Client(peer.AddrPort().Addr(), forwarded)
}
