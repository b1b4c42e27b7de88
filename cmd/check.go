package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"eventstream/internal/check"
	"eventstream/internal/check/cluster"
)

const checkAbout = `Runs the services as processes of their own, under load and with clients that
come and go, injects faults by a schedule drawn from the seed, and judges what
every client saw against what Kafka acknowledged: nothing lost, nothing extra,
nothing twice in a connection, order kept, no gap without a reason. The same
seed makes the same schedule, filters and clients.

It uses the Kafka and PostgreSQL of "make services", if EVENTSTREAM_KAFKA and
EVENTSTREAM_POSTGRES or .services/env tell where they are, a redis-server of its
own, for faults of Kafka a Kafka of its own, from .services, and for a backup
that is restored a PostgreSQL of its own. Without the
servers everything runs in one process with the edges inside it, and few faults
are possible.

It exits with 0 only if all promises were kept.`

// checkFlags are how to check.
type checkFlags struct {
	check.Config
	faults []string
	dir    string
	one    bool
}

func (a *app) checkCommand() (*cobra.Command, error) {
	f := checkFlags{}
	c := &cobra.Command{
		Use:   "check",
		Short: "Prove on running processes that nothing is lost, by breaking them",
		Long:  checkAbout + "\n\nFaults:\n" + kindsTable(),
		Example: "  eventstream check\n" +
			"  eventstream check --seed 7 --duration 30m\n" +
			"  eventstream check --faults redis-rollback,gateway-kill --duration 1m\n" +
			"  eventstream check --faults none --clients 50",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.check(c.Context(), &f, c.OutOrStdout()) },
	}
	fs := c.Flags()
	fs.Uint64Var(&f.Seed, "seed", 0, "of everything that is random; one is drawn, and shown, if 0")
	fs.DurationVar(&f.Duration, "duration", time.Minute, "how long there is load and faults; what is outstanding then has another minute to arrive")
	fs.StringSliceVar(&f.faults, "faults", []string{"all"}, "kinds of faults, separated by commas; all, or none")
	fs.IntVar(&f.Clients, "clients", 200, "WebSocket clients; about a fifth of them are away at any time")
	fs.Float64Var(&f.Rate, "rate", 300, "events a second")
	fs.IntVar(&f.Filters, "filters", 2, "filter services of each shard")
	fs.IntVar(&f.Shards, "shards", 1, "parts of the subscribers that filter services share")
	fs.IntVar(&f.Gateways, "gateways", 2, "gateways")
	fs.IntVar(&f.Partitions, "partitions", 6, "partitions of the topic")
	fs.DurationVar(&f.Settle, "settle", time.Minute, "how long what is outstanding in the end may take to arrive")
	fs.DurationVar(&f.ResumeWindow, "resume-window", 0, "of the gateways; theirs if 0")
	fs.DurationVar(&f.Retention, "lane-retention", 0, "of the filter services; theirs if 0")
	fs.BoolVar(&f.AllowGaps, "allow-gaps", false, "let clients be told of gaps once Redis has lost what it held; all of it still stands in Kafka")
	fs.BoolVar(&f.Cluster.RedisCluster, "redis-cluster", false, "have a Redis Cluster of three nodes, which faults of Redis befall one at a time")
	fs.StringVar(&f.dir, "dir", "", "folder for logs and data, which is kept; a temporary one, kept only on failure, if empty")
	fs.BoolVar(&f.one, "one-process", false, "run everything in one process even if there are servers")
	return c, nil
}

func kindsTable() string {
	var b strings.Builder
	names, about := check.Kinds()
	for i, name := range names {
		fmt.Fprintf(&b, "  %-20s %s\n", name, about[i])
	}
	return b.String()
}

func (a *app) check(ctx context.Context, f *checkFlags, out io.Writer) error {
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
	err = check.Run(ctx, f.Config, out, a.log)
	if bad, ok := errors.AsType[*check.FaultError](err); ok {
		cleanup(nil) // there is nothing to look at
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

// find looks for our program and for servers.
func (f *checkFlags) find() error {
	var err error
	if f.Cluster.Exe, err = os.Executable(); err != nil {
		return fmt.Errorf("find our own program: %w", err)
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
	f.Cluster.Broker, _ = cluster.FindKafka(services) // faults of Kafka say what they need
	f.Cluster.Server, _ = cluster.FindPostgres()
	f.Cluster.Clocks = cluster.CanStep() == nil
	return nil
}

// services is where `make services` leaves what it has installed.
const services = ".services"

// server returns where a server is: by the environment, or else by what
// `make services` has left in the working directory.
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

// servers says what is used.
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

// openDir finds a folder. cleanup removes a temporary one, if all was well.
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
