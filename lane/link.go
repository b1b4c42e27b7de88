package lane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// callTimeout bounds a call on a connection that doesn't answer.
const callTimeout = 3 * time.Second

// masterCheck is how often Sentinels are asked who the master is, besides that
// they tell when it changes: what is told while nobody listens is lost.
const masterCheck = 2 * time.Second

// link makes the Redis client. A cluster and Sentinels have to be asked for their
// nodes first, for which one of them has to be there: so that happens with the
// first call, and with each call after it until one answers.
type link struct {
	opt     rueidis.ClientOption
	cluster bool
	log     *slog.Logger

	mu      sync.Mutex
	client  rueidis.Client // nil until they have been asked
	opening *opening       // under way
	closed  bool
	wait    sync.WaitGroup
}

// opening is an attempt to make a client. The result is there when done is closed.
type opening struct {
	done   chan struct{}
	client rueidis.Client
	err    error
}

var errClosed = errors.New("redis client is closed")

func newLink(cfg RedisConfig, log *slog.Logger) (*link, error) {
	opt, err := clientOption(cfg)
	if err != nil {
		return nil, err
	}
	l := &link{opt: opt, log: log, cluster: !opt.ForceSingleClient && opt.Sentinel.MasterSet == ""}
	if !opt.ForceSingleClient {
		return l, nil
	}
	l.client, err = rueidis.NewClient(opt)
	if l.client == nil {
		return nil, err
	}
	if err != nil {
		log.Warn("redis not reachable yet", "err", err)
	}
	return l, nil
}

// clientOption chooses small buffers and no client-side cache: a connection
// costs 0.2 MB so, and 1.4 MB by default. Errors go to the caller, who knows
// what to do next, instead of being retried unseen.
func clientOption(cfg RedisConfig) (rueidis.ClientOption, error) {
	opt, err := parseAddr(cmp.Or(cfg.Addr, "127.0.0.1:6379"))
	if err != nil {
		return opt, err
	}
	opt.Username, opt.Password = cmp.Or(cfg.User, opt.Username), cmp.Or(cfg.Password, opt.Password)
	if cfg.TLS != nil {
		opt.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return (&tls.Dialer{NetDialer: d, Config: cfg.TLS()}).DialContext(ctx, "tcp", addr)
		}
	}
	opt.ForceSingleClient = len(opt.InitAddress) == 1 && opt.Sentinel.MasterSet == "" // also boots while Redis is down
	opt.DisableCache = true
	opt.DisableRetry = true
	opt.ReadBufferEachConn = 64 << 10
	opt.WriteBufferEachConn = 64 << 10
	opt.RingScaleEachConn = 8
	opt.ConnWriteTimeout = callTimeout
	opt.Dialer.Timeout = callTimeout
	opt.Sentinel.Dialer.Timeout = callTimeout
	opt.Sentinel.TopologyRefreshInterval = masterCheck
	opt.ClusterOption.MaxMovedRedirections = 8 // nodes that disagree are an error, not a loop
	return opt, nil
}

// parseAddr reads RedisConfig.Addr. In a list of nodes, the first may be a URL
// that says how to connect to all of them.
func parseAddr(text string) (opt rueidis.ClientOption, err error) {
	first, others, several := strings.Cut(text, ",")
	opt.InitAddress = []string{first}
	if strings.Contains(first, "://") {
		if opt, err = rueidis.ParseURL(first); err != nil {
			return opt, errAddr // err quotes it, with its password
		}
	}
	if several {
		opt.InitAddress = append(opt.InitAddress, strings.Split(others, ",")...)
	}
	for i, addr := range opt.InitAddress {
		opt.InitAddress[i] = strings.TrimSpace(addr)
		if !isAddr(opt.InitAddress[i]) && !strings.HasPrefix(first, "unix://") {
			return opt, fmt.Errorf("address %d of %d: %w", i+1, len(opt.InitAddress), errAddr)
		}
	}
	if opt.SelectDB != 0 && len(opt.InitAddress) > 1 && opt.Sentinel.MasterSet == "" {
		return opt, fmt.Errorf("database %d: a Redis Cluster has only database 0", opt.SelectDB)
	}
	return opt, nil
}

var errAddr = errors.New("want host:port, host:port,host:port…, or redis://user:password@host:port, with what is special in the password percent-encoded")

// isAddr keeps what is no address from where it would be quoted in errors.
func isAddr(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && port != "" && !strings.ContainsAny(host, "/@ ")
}

// open returns the client, and makes it if there is none yet.
func (l *link) open(ctx context.Context) (rueidis.Client, error) {
	l.mu.Lock()
	client, o := l.client, l.opening
	if client == nil && o == nil {
		if l.closed {
			l.mu.Unlock()
			return nil, errClosed
		}
		o = &opening{done: make(chan struct{})}
		l.opening = o
		l.wait.Go(func() { l.connect(o) })
	}
	l.mu.Unlock()
	if client != nil {
		return client, nil
	}
	select {
	case <-o.done:
		return o.client, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) connect(o *opening) {
	defer close(o.done)
	client, err := rueidis.NewClient(l.opt)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opening = nil; err != nil {
		o.err = fmt.Errorf("find the nodes of redis: %w", err)
		return
	}
	l.client, o.client = client, client
	if l.closed {
		client.Close()
	}
}

// exec runs a script; its keys are of one slot.
func (l *link) exec(ctx context.Context, script *rueidis.Lua, keys, args []string) rueidis.RedisResult {
	c, err := l.open(ctx)
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	return script.Exec(ctx, c, keys, args)
}

// Close ends all connections; calls in progress fail.
func (l *link) Close() {
	l.mu.Lock()
	if l.client != nil && !l.closed {
		l.client.Close()
	}
	l.closed = true
	l.mu.Unlock()
	l.wait.Wait()
}
