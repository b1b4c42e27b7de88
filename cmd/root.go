// Package cmd is the command line: one file for each subcommand, and the wiring of
// services and their servers. No other package reads flags or the environment.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/caarlos0/env/v11"
	"github.com/lesismal/nbio/logging"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"eventstream/internal/ops"
	"eventstream/internal/redact"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2 // wrong flags, arguments or environment
	exitUnacked = 3 // producer: some events were not acknowledged
	exitPending = 4 // migrate --status: some migrations are pending
)

// usageError is an error in what the user typed.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// app is what all subcommands share.
type app struct {
	version   string
	logLevel  string
	logFormat string
	log       *slog.Logger
	logsJSON  bool // a service's logs are JSON
	reloads   reloads
	config    *configFile
}

// Execute runs the command line and returns the exit code.
func Execute(version string, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	a := &app{version: version}
	var root *cobra.Command
	var err error
	if a.config, err = readConfig(args); err == nil {
		root, err = a.root()
	}
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	return a.end(err)
}

// end reports the error of a command, and returns the exit code. If a service logs
// JSON, the error is logged as JSON, too.
func (a *app) end(err error) int {
	if err == nil || errors.Is(err, errUnacked) || !a.logsJSON {
		return exitCode(err)
	}
	a.log.Error("ended by an error", "err", err)
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFailed
}

// limitMemory sets the garbage collector's memory limit to that of the container,
// unless GOMEMLIMIT is set.
func (a *app) limitMemory() {
	limit, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(0.9), memlimit.WithProvider(memlimit.FromCgroup))
	a.log.Debug("memory limit", "bytes", limit, "err", err) // err is usual: without a container there is no limit
}

func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "eventstream:", redact.Text(err.Error()))
		return exitUsage
	case errors.Is(err, errUnacked):
		return exitUnacked // already reported
	case errors.Is(err, errPending):
		return exitPending // already printed
	}
	fmt.Fprintln(os.Stderr, "eventstream:", redact.Text(err.Error()))
	return exitFailed
}

const about = `eventstream delivers the events of a Kafka topic that match each client's
filters, over WebSockets, the moment they happen, and loses none.

Every flag of api, filter and gateway can also be given in the environment:
--log-level is EVENTSTREAM_LOG_LEVEL. Those of producer are there, too: --rate
is EVENTSTREAM_PRODUCER_RATE. Flags go before the environment.

Exit codes: 0 done or stopped by a signal, 1 failed, 2 wrong usage,
3 producer only: some events were not acknowledged, 4 migrate --status only:
migrations are pending.`

func (a *app) root() (*cobra.Command, error) {
	root := &cobra.Command{
		Use:           "eventstream",
		Short:         "Real-time event streaming gateway",
		Long:          about,
		Example:       "  eventstream dev            # everything in one process, nothing to install\n  eventstream listen demo    # print the demo subscriber's events",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       a.version,
		Args:          noCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },

		SuggestionsMinimumDistance: 2,
	}
	common := struct {
		Level  string `env:"LOG_LEVEL"`
		Format string `env:"LOG_FORMAT" envDefault:"auto"`
	}{}
	if err := a.fromEnv(&common); err != nil {
		return nil, err
	}
	root.PersistentFlags().String("config", a.config.path, "YAML file with settings by the names of flags, and with sources (EVENTSTREAM_CONFIG); flags and the environment go before it")
	root.PersistentFlags().StringVar(&a.logLevel, "log-level", common.Level, "debug, info, warn or error (default info; dev: warn)")
	root.PersistentFlags().StringVar(&a.logFormat, "log-format", common.Format, "text, json, or auto: text on a terminal")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		level := a.logLevel
		if level == "" {
			level = "info"
			if c.Name() == "dev" {
				level = "warn"
			}
		}
		log, err := ops.NewLog(os.Stderr, level, a.logFormat)
		if err != nil {
			return usageError{err}
		}
		if isService(c.Name()) {
			a.reloads.catch()
			if _, a.logsJSON = log.Handler().(*slog.JSONHandler); a.logsJSON {
				log = log.With("service", c.Name(), "version", a.version)
			}
		}
		a.log = log
		takeLibraryLogs(log)
		a.limitMemory()
		return nil
	}
	root.SetVersionTemplate("eventstream {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok && bad.GetFlag().Value.Type() == "stringSlice" {
			err = fmt.Errorf("--%s: %w", bad.GetFlag().Name, bad.Unwrap()) // without the value: an address may contain a password
		}
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	for _, add := range []func() (*cobra.Command, error){
		a.devCommand, a.apiCommand, a.filterCommand, a.gatewayCommand, a.producerCommand,
		a.listenCommand, a.seedCommand, a.configCommand, a.sniffCommand, a.migrateCommand, a.skipLostCommand, a.lanesCommand, a.tokenCommand, a.apikeyCommand, a.checkCommand, a.healthcheckCommand, a.versionCommand,
	} {
		c, err := add()
		if err != nil {
			return nil, err
		}
		c.Flags().VisitAll(hideDefault)
		root.AddCommand(c)
	}
	return root, a.config.check()
}

// isService reports whether a command runs until it is told to stop.
func isService(command string) bool {
	return command == "api" || command == "filter" || command == "gateway"
}

// takeLibraryLogs redirects the logs of libraries to ours: those that use package log,
// and nbio, which would print them.
func takeLibraryLogs(log *slog.Logger) {
	slog.SetDefault(log)
	logging.SetLogger(ops.NewLibraryLog(log, "nbio"))
}

// fromEnv fills target from the environment and the file of --config. The tags of its
// fields name variables without their prefix. The values become the defaults of flags.
func (a *app) fromEnv(target any) error {
	vars, err := a.config.environment(target)
	if err != nil {
		return err
	}
	if err := env.ParseWithOptions(target, env.Options{Prefix: prefix, Environment: vars}); err != nil {
		return a.config.explain(target, err)
	}
	return nil
}

// hideDefault makes help show the name of the variable that sets a flag's default,
// instead of its value, which may be an address with a password.
func hideDefault(f *pflag.Flag) {
	bare := strings.NewReplacer("[", "", "]", "", `"`, "") // the decoration of lists
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		if strings.HasPrefix(name, "EVENTSTREAM_") && value != "" && bare.Replace(f.DefValue) == bare.Replace(value) {
			f.DefValue = "$" + name
		}
	}
}

// noCommand rejects unknown subcommands.
func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(", did you mean %s?", strings.Join(near, " or "))
	}
	return usageError{fmt.Errorf("unknown command %q%s; see eventstream --help", args[0], hint)}
}

// noArgs rejects arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q; see %s --help", c.Name(), args, c.CommandPath())}
	}
	return nil
}

func (a *app) versionCommand() (*cobra.Command, error) {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "eventstream", a.version) },
	}, nil
}
