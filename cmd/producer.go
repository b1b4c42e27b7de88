package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"eventstream/internal/ops"
	"eventstream/producer"
	"eventstream/topic"
)

// errUnacked reports that some events were not acknowledged.
var errUnacked = errors.New("some events were not acknowledged")

// producerFlags configure what to produce.
type producerFlags struct {
	Rate     float64       `env:"PRODUCER_RATE"`
	Count    int64         `env:"PRODUCER_COUNT"`
	Duration time.Duration `env:"PRODUCER_DURATION"`
	Seed     uint64        `env:"PRODUCER_SEED"`
	File     string        `env:"PRODUCER_FILE"`
}

func (a *app) producerCommand() (*cobra.Command, error) {
	var kafka kafkaFlags
	var own producerFlags
	if err := a.fromEnvAll(&kafka, &own); err != nil {
		return nil, err
	}
	c := &cobra.Command{
		Use:   "producer",
		Short: "Produce events, made up or from a file",
		Long: "Writes events to Kafka: synthetic ones, or those of an NDJSON file (gzip too). A line that\n" +
			"is no event is reported with its number, and the rest goes on. It exits with 3 if an event\n" +
			"was not acknowledged.",
		Example: "  eventstream producer --rate 100\n" +
			"  eventstream producer --count 1000000 --seed 7\n" +
			"  eventstream producer --file events.ndjson.gz\n" +
			"  generate | eventstream producer --file -",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := own.check(); err != nil {
				return usageError{err}
			}
			cfg, err := kafka.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			return a.produce(c.Context(), cfg, own, c.OutOrStdout())
		},
	}
	fs := c.Flags()
	kafka.add(fs)
	fs.Float64Var(&own.Rate, "rate", own.Rate, "events a second; as fast as possible if 0")
	fs.Int64Var(&own.Count, "count", own.Count, "stop after so many events; no limit if 0")
	fs.DurationVar(&own.Duration, "duration", own.Duration, "stop after so long; no limit if 0")
	fs.Uint64Var(&own.Seed, "seed", own.Seed, "seed of the synthetic events: the same ones again; random if 0")
	fs.StringVar(&own.File, "file", own.File, "NDJSON file, - for stdin; synthetic events if empty")
	return c, nil
}

func (p producerFlags) check() error {
	if !(p.Rate >= 0) || p.Count < 0 || p.Duration < 0 {
		return errors.New("--rate, --count and --duration: want 0 or more")
	}
	if p.File != "" && p.Seed != 0 {
		return errors.New("--seed is for synthetic events, --file brings its own: give one of them")
	}
	return nil
}

// source opens the source of events.
func (p producerFlags) source() (src producer.Source, closer io.Closer, err error) {
	switch p.File {
	case "":
		seed := p.Seed
		if seed == 0 {
			seed = rand.Uint64()
		}
		return producer.NewGenerator(seed, 0), io.NopCloser(nil), nil
	case "-":
		return producer.NewReader(os.Stdin), io.NopCloser(nil), nil
	}
	f, err := os.Open(p.File)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return producer.NewReader(f), f, nil
}

func (a *app) produce(ctx context.Context, kcfg topic.Config, own producerFlags, out io.Writer) error {
	src, closer, err := own.source()
	if err != nil {
		return err
	}
	defer closer.Close()
	kcfg.NoDeadLetters = true
	if _, err := topic.Ensure(ctx, kcfg, a.log); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	kcfg.BatchBytes = topic.MaxMessage(ctx, kcfg, a.log)
	p, err := topic.NewProducer(kcfg, prometheus.NewRegistry(), a.log)
	if err != nil {
		return usageError{err}
	}
	defer p.Close()
	cfg := producer.Config{Rate: own.Rate, Count: own.Count, Duration: own.Duration}
	if ops.IsTerminal(os.Stderr) {
		cfg.Terminal = os.Stderr
	}
	report, err := producer.Run(ctx, cfg, src, p, a.log)
	fmt.Fprintf(out, "%d acknowledged, %d failed, %d bad lines; %s, %.0f events/s\n",
		report.Acked, report.Failed, report.Bad, report.Elapsed.Round(time.Millisecond), report.Rate())
	if err != nil {
		return err
	}
	if report.Failed > 0 {
		for _, e := range report.Errors {
			a.log.Error("event not acknowledged", "err", e)
		}
		return errUnacked
	}
	return nil
}
