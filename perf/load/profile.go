//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
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
		base := filepath.Join(cfg.base, name+".cpu.pb.gz")
		g.Go(func() error {
			if err := profile(ctx, p, length/2, to); err != nil {
				return err
			}
			return compare(ctx, filepath.Join(to, "cpu"), base, cfg.keep)
		})
	}
	return g.Wait()
}

func profile(ctx context.Context, p stack.Part, d time.Duration, dir string) error {
	for _, kind := range kinds {
		file := filepath.Join(dir, kind+".pb.gz")
		if err := p.Profile(ctx, kind, d, file); err != nil {
			return err
		}
		if err := describe(ctx, file, filepath.Join(dir, kind), p.Name+": "+kind); err != nil {
			return err
		}
	}
	return nil
}

// compare writes <name>.diff.txt: by how many percent of all each function grew since
// the stored profile, which the new one replaces if it is to be kept.
func compare(ctx context.Context, name, base string, keep bool) error {
	_, err := os.Stat(base)
	if err == nil {
		err = pprof(ctx, name+".diff.txt", "-top", "-nodecount=20", "-normalize", "-diff_base="+base, name+".pb.gz")
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil // there is nothing to compare with yet
	}
	if err != nil || !keep {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(name + ".pb.gz")
	if err != nil {
		return err
	}
	return os.WriteFile(base, text, 0o644)
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
