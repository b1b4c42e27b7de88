// Command eventstream-check checks on running processes of eventstream that nothing is
// lost, by breaking them. It is a program of its own, so that code that breaks services
// is not part of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"eventstream/internal/check"
	"eventstream/internal/redact"
)

// Exit codes.
const (
	exitKept   = 0 // all promises were kept
	exitFailed = 1
	exitUsage  = 2 // wrong flags, arguments or environment
)

// usageError is an error in what the user typed.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	c := command()
	c.SetArgs(args)
	c.SetOut(out)
	c.SetErr(errs)
	err := c.ExecuteContext(ctx)
	if err == nil {
		return exitKept
	}
	fmt.Fprintln(errs, "eventstream-check:", redact.Text(err.Error()))
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

const about = `Runs the services as processes of their own, under load and with clients that
come and go, injects faults by a schedule drawn from the seed, and judges what
every client saw against what Kafka acknowledged: nothing lost, nothing extra,
nothing twice in a connection, order kept, no gap without a reason. The same
seed makes the same schedule, filters and clients.

The services are those of the program eventstream beside this one, or else in
PATH, unless --eventstream names another.

It uses the Kafka and PostgreSQL of "make services", if EVENTSTREAM_KAFKA and
EVENTSTREAM_POSTGRES or .services/env tell where they are, a redis-server of its
own, for faults of Kafka a Kafka of its own, from .services, and for a backup
that is restored a PostgreSQL of its own. Without the
servers everything runs in one process with the edges inside it, and few faults
are possible.

It exits with 0 only if all promises were kept, and with 2 for wrong usage.`

func command() *cobra.Command {
	f := checkFlags{}
	c := &cobra.Command{
		Use:   "eventstream-check",
		Short: "Prove on running processes that nothing is lost, by breaking them",
		Long:  about + "\n\nFaults:\n" + kindsTable(),
		Example: "  eventstream-check\n" +
			"  eventstream-check --seed 7 --duration 30m\n" +
			"  eventstream-check --faults redis-rollback,gateway-kill --duration 1m\n" +
			"  eventstream-check --faults none --clients 50",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("eventstream-check takes no arguments, got %q; see --help", args)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			return f.check(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{fmt.Errorf("%w; see --help", err)} })
	fs := c.Flags()
	fs.StringVar(&f.eventstream, "eventstream", "", "the program to check; the one beside this program, or else in PATH, if empty")
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
	fs.BoolVar(&f.Mapped, "mapped", false, "produce events whose type is in a header, whose user is the key, and whose amount is a text; services get a file with sources that says so")
	fs.BoolVar(&f.AllowGaps, "allow-gaps", false, "let clients be told of gaps once Redis has lost what it held; all of it still stands in Kafka")
	fs.BoolVar(&f.Cluster.RedisCluster, "redis-cluster", false, "have a Redis Cluster of three nodes, which faults of Redis befall one at a time")
	fs.BoolVar(&f.Cluster.Secured, "kafka-secured", false, "have the Kafka of its own want TLS and SASL of the services, and have them no more rights than they need")
	fs.StringVar(&f.dir, "dir", "", "folder for logs and data, which is kept; a temporary one, kept only on failure, if empty")
	fs.BoolVar(&f.one, "one-process", false, "run everything in one process even if there are servers")
	fs.StringVar(&f.logLevel, "log-level", fromEnv("EVENTSTREAM_LOG_LEVEL", "info"), "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", fromEnv("EVENTSTREAM_LOG_FORMAT", "auto"), "text, json, or auto: text on a terminal")
	return c
}

// fromEnv returns an environment variable, or the usual value if it is empty.
func fromEnv(key, usual string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return usual
}

func kindsTable() string {
	names, about := check.Kinds()
	var table string
	for i, name := range names {
		table += fmt.Sprintf("  %-20s %s\n", name, about[i])
	}
	return table
}
