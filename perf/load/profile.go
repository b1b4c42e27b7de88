//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"eventstream/perf/flame"
	"eventstream/perf/stack"
)

// kinds of profiles, the one that takes time first.
var kinds = []string{"cpu", "heap", "allocs", "goroutine", "mutex", "block"}

// profiles keeps the profiles of all processes that serve them: of the CPU over the
// middle half of the run, the others at its end.
func profiles(ctx context.Context, cfg config, parts []stack.Part, dir string) error {
	length := cfg.scenario.length()
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(length / 4):
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		if p.Admin == "" {
			continue
		}
		name, _, _ := strings.Cut(p.Name, "-") // gateway, of gateway-3
		to := filepath.Join(dir, "profiles", name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		g.Go(func() error { return profile(ctx, p, length/2, to, filepath.Join(cfg.base, name+".cpu.pb.gz")) })
	}
	return g.Wait()
}

func profile(ctx context.Context, p stack.Part, d time.Duration, dir, base string) error {
	for _, kind := range kinds {
		url := "http://" + p.Admin + "/debug/pprof/" + kind
		if kind == "cpu" {
			url = fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", p.Admin, max(d.Seconds(), 1))
		}
		file := filepath.Join(dir, kind+".pb.gz")
		if err := fetch(ctx, url, file); err != nil {
			return fmt.Errorf("%s profile of %s: %w", kind, p.Name, err)
		}
		if err := describe(ctx, file, filepath.Join(dir, kind), p.Name+": "+kind); err != nil {
			return err
		}
	}
	if _, err := os.Stat(base); errors.Is(err, os.ErrNotExist) {
		return nil // nothing to compare with yet
	}
	cpu := filepath.Join(dir, "cpu.pb.gz")
	return pprof(ctx, filepath.Join(dir, "cpu.diff.txt"), "-top", "-nodecount=20", "-normalize", "-diff_base="+base, cpu)
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

// describe writes <name>.top.txt, and <name>.html, a flame graph.
func describe(ctx context.Context, file, name, title string) error {
	if err := pprof(ctx, name+".top.txt", "-top", "-nodecount=20", file); err != nil {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(name + ".html")
	if err != nil {
		return err
	}
	defer out.Close()
	return flame.Write(out, in, title)
}

// pprof writes what `go tool pprof` prints into a file.
func pprof(ctx context.Context, to string, args ...string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof"}, args...)...)
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go tool pprof %q: %w", args, err)
	}
	return nil
}
