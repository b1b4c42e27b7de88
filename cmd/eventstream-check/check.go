package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"eventstream/internal/check"
	"eventstream/internal/check/cluster"
	"eventstream/internal/ops"
)

type checkFlags struct {
	check.Config
	eventstream string
	faults      []string
	dir         string
	one         bool

	logLevel, logFormat string
}

func (f *checkFlags) check(ctx context.Context, out, logs io.Writer) error {
	log, err := ops.NewLog(logs, f.logLevel, f.logFormat)
	if err != nil {
		return usageError{err}
	}
	slog.SetDefault(log) // for libraries that use package log
	if err := f.validate(); err != nil {
		return usageError{err}
	}
	f.Config.Faults = f.faults
	if f.Seed == 0 {
		f.Seed = rand.Uint64N(1_000_000) + 1
	}
	if err := f.find(); err != nil {
		return err
	}
	cleanup, err := f.openDir()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d, for %s; %s; logs in %s\n", f.Seed, f.Duration, f.servers(), f.Cluster.Dir)
	err = check.Run(ctx, f.Config, out, log)
	if bad, ok := errors.AsType[*check.FaultError](err); ok {
		cleanup(nil) // nothing to keep
		return usageError{bad}
	}
	cleanup(err)
	return err
}

func (f *checkFlags) validate() error {
	if f.Duration < 5*time.Second || f.Settle < time.Second {
		return errors.New("--duration must be at least 5s, --settle at least 1s")
	}
	if f.Clients < 1 || f.Rate <= 0 || f.Filters < 1 || f.Shards < 1 || f.Gateways < 1 || f.Partitions < 1 {
		return errors.New("--clients, --filters, --shards, --gateways and --partitions must be at least 1, --rate more than 0")
	}
	return nil
}

// program returns the path of the program to check.
func (f *checkFlags) program() (string, error) {
	const build = "; `go build -o ./ . ./cmd/eventstream-check` builds both"
	if f.eventstream != "" {
		path, err := exec.LookPath(f.eventstream)
		if err != nil {
			return "", usageError{fmt.Errorf("--eventstream: %w%s", err, build)}
		}
		return filepath.Abs(path)
	}
	if own, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(own), "eventstream")); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("eventstream")
	if err != nil {
		return "", usageError{errors.New("there is no program eventstream, neither beside eventstream-check nor in PATH: say where it is with --eventstream" + build)}
	}
	return filepath.Abs(path)
}

// find sets the paths of the program and of the servers.
func (f *checkFlags) find() error {
	var err error
	if f.Cluster.Exe, err = f.program(); err != nil {
		return err
	}
	if f.one {
		return nil
	}
	if f.Cluster.Redis, err = exec.LookPath("redis-server"); err != nil {
		f.Cluster.Redis = ""
	}
	if kafka := server("EVENTSTREAM_KAFKA"); kafka != "" {
		f.Cluster.Kafka = strings.Split(kafka, ",")
	}
	f.Cluster.Postgres = server("EVENTSTREAM_POSTGRES")
	f.Cluster.Broker, _ = cluster.FindKafka(services) // optional: faults of Kafka report if it is missing
	f.Cluster.Server, _ = cluster.FindPostgres()
	f.Cluster.Clocks = cluster.CanStep() == nil
	return nil
}

// services is the folder that `make services` installs into.
const services = ".services"

// server returns a server's address: from the environment, or else from what `make
// services` has left in the working directory.
func server(key string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	text, _ := os.ReadFile(filepath.Join(services, "env"))
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return v
		}
	}
	return ""
}

// servers describes the servers in use.
func (f *checkFlags) servers() string {
	if f.Cluster.Native() {
		return fmt.Sprintf("Kafka at %s, PostgreSQL, and a redis-server of its own", strings.Join(f.Cluster.Kafka, ","))
	}
	why := "as asked for"
	if !f.one {
		var missing []string
		for _, s := range []struct {
			name  string
			there bool
		}{{"Kafka", len(f.Cluster.Kafka) > 0}, {"PostgreSQL", f.Cluster.Postgres != ""}, {"redis-server", f.Cluster.Redis != ""}} {
			if !s.there {
				missing = append(missing, s.name)
			}
		}
		why = "no " + strings.Join(missing, ", no ")
	}
	return "everything in one process (" + why + "): no part can be killed alone, and few faults are possible"
}

// openDir opens or creates the folder. cleanup removes a temporary one
// if there was no error.
func (f *checkFlags) openDir() (cleanup func(error), err error) {
	keep := func(error) {}
	if f.dir != "" {
		f.Cluster.Dir, err = filepath.Abs(f.dir)
		if err == nil {
			err = os.MkdirAll(f.Cluster.Dir, 0o700)
		}
		return keep, err
	}
	if f.Cluster.Dir, err = os.MkdirTemp("", "eventstream-check-"); err != nil {
		return keep, fmt.Errorf("folder for the check: %w", err)
	}
	return func(failed error) {
		if failed == nil {
			os.RemoveAll(f.Cluster.Dir)
		}
	}, nil
}
