//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is the requests that are sent to both servers.
type load struct {
	cfg  config
	http *http.Client
	made atomic.Int64  // filters so far
	read string        // path of the filter that is read
	all  *bytes.Buffer // an import
}

func newLoad(cfg config) *load {
	l := &load{cfg: cfg, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: cfg.clients}}, all: new(bytes.Buffer)}
	for i := range cfg.lines {
		l.all.Write(append(spec(i), '\n'))
	}
	return l
}

// spec is the predecessor's example and a test of an attribute, each a bit different.
func spec(i int) []byte {
	return fmt.Appendf(nil, `{"subscriber_id":"user_%d","event_types":["purchase","refund"],"user_tiers":["premium"],"min_amount":%d,"where":{"sku":{"eq":"p-%d"}}}`, i/10, i%100, i)
}

type kind struct {
	name string
	do   func(context.Context, server) (int, error)
}

func (l *load) kinds() []kind {
	return []kind{
		{"`POST /filters`", l.repeat(func(ctx context.Context, s server) error {
			_, err := l.send(ctx, "POST", s.url+"/filters", spec(int(l.made.Add(1))), http.StatusCreated)
			return err
		})},
		{"`GET /filters/{id}`", l.repeat(func(ctx context.Context, s server) error {
			_, err := l.send(ctx, "GET", s.url+l.read, nil, http.StatusOK)
			return err
		})},
		{fmt.Sprintf("a filter of an import of %d", l.cfg.lines), func(ctx context.Context, s server) (int, error) {
			_, err := l.send(ctx, "POST", s.url+"/filters:import", l.all.Bytes(), http.StatusOK)
			return l.cfg.lines, err
		}},
	}
}

// prepare warms connections up, and makes the filter that is read.
func (l *load) prepare(ctx context.Context, s server) error {
	for try := 0; ; try++ {
		header, err := l.send(ctx, "POST", s.url+"/filters", spec(0), http.StatusCreated)
		if err == nil {
			l.read = header.Get("Location")
			return nil
		}
		if try == 50 || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// repeat sends requests for the duration of a turn, and returns how many.
func (l *load) repeat(one func(context.Context, server) error) func(context.Context, server) (int, error) {
	return func(ctx context.Context, s server) (int, error) {
		var n atomic.Int64
		end := time.Now().Add(l.cfg.duration)
		g, ctx := errgroup.WithContext(ctx)
		for range l.cfg.clients {
			g.Go(func() error {
				for time.Now().Before(end) {
					if err := one(ctx, s); err != nil {
						return err
					}
					n.Add(1)
				}
				return nil
			})
		}
		err := g.Wait()
		return int(n.Load()), err
	}
}

func (l *load) send(ctx context.Context, method, url string, body []byte, status int) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("%s %s: %s: %.300s", method, url, resp.Status, answer)
	}
	return resp.Header, err
}
