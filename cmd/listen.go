package cmd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"eventstream/client"
	"eventstream/filter"
)

func (a *app) listenCommand() (*cobra.Command, error) {
	own := struct {
		URL    string `env:"GATEWAY" envDefault:"ws://127.0.0.1:8003/ws"`
		Cursor string `env:"CURSOR"`
	}{}
	if err := fromEnv(&own); err != nil {
		return nil, err
	}
	full := false
	c := &cobra.Command{
		Use:   "listen SUBSCRIBER",
		Short: "Print a subscriber's events",
		Long: "Connects to a gateway and prints the subscriber's events to stdout, one JSON object a\n" +
			"line. It reconnects by itself, goes on where it was, and says on stderr what it does.",
		Example: "  eventstream listen demo\n  eventstream listen --url wss://stream.example.org user_1 | jq .amount",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("want one subscriber id, got %d arguments; see %s --help", len(args), c.CommandPath())}
			}
			if err := filter.CheckSubscriberID(args[0]); err != nil {
				return usageError{fmt.Errorf("subscriber id: %w", err)}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			out := bufio.NewWriter(c.OutOrStdout())
			cl, err := client.New(client.Config{
				URL: own.URL, SubscriberID: args[0], Cursor: own.Cursor, OnState: tell(a.log),
			}, slog.New(slog.DiscardHandler)) // tell says it all
			if err != nil {
				return usageError{err}
			}
			err = cl.Run(c.Context(), func(e client.Event) error { return printEvent(out, e, full) })
			if cursor := cl.Cursor(); cursor != "" && c.Context().Err() != nil {
				a.log.Info("stopped; to go on from here: --cursor " + cursor)
			}
			return err
		},
	}
	fs := c.Flags()
	fs.StringVar(&own.URL, "url", own.URL, "gateway: ws, wss, http or https URL, or host:port")
	fs.StringVar(&own.Cursor, "cursor", own.Cursor, "where to go on; from now on if empty")
	fs.BoolVar(&full, "full", false, "print id and time of each event too: {\"id\":…,\"ts\":…,\"data\":…}")
	return c, nil
}

// printEvent prints one event on one line, at once.
func printEvent(out *bufio.Writer, e client.Event, full bool) error {
	var line bytes.Buffer
	if err := json.Compact(&line, e.Data); err != nil {
		return fmt.Errorf("event %s: %w", e.ID, err)
	}
	if full {
		fmt.Fprintf(out, `{"id":%q,"ts":%d,"data":%s}`+"\n", e.ID, e.Time.UnixMilli(), line.Bytes())
	} else {
		out.Write(append(line.Bytes(), '\n'))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// tell logs what becomes of the connection.
func tell(log *slog.Logger) func(client.State) {
	return func(s client.State) {
		switch s.Status {
		case client.Connected, client.Resumed:
			log.Info(s.Status.String(), "subscriber", s.SubscriberID)
		case client.Gap:
			log.Warn("events are missing", "reason", s.Reason)
		case client.Disconnected:
			log.Warn("disconnected; reconnecting", "in", s.Retry.Round(time.Millisecond), "err", s.Err)
		}
	}
}
