//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", p.Admin, d.Seconds())
		g.Go(func() error {
			if err := fetch(ctx, url, file); err != nil {
				return fmt.Errorf("profile of %s: %w", p.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}
