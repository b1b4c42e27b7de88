//go:build linux

package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// profiles keeps what the processes that serve profiles spend their CPU time on, for so long.
func (s *swarm) profiles(ctx context.Context, d time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.stack.Parts {
		if p.Admin == "" {
			continue
		}
		name, _, _ := strings.Cut(p.Name, "-") // gateway, of gateway-3
		file := filepath.Join(s.cfg.out, s.server, name+".cpu.pb.gz")
		g.Go(func() error { return p.Profile(ctx, "cpu", d, file) })
	}
	return g.Wait()
}
