package cmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"eventstream/client"
	"eventstream/filter"
	"eventstream/wire"
)

func (a *app) listenCommand() (*cobra.Command, error) {
	own := struct {
		URL     string `env:"GATEWAY" envDefault:"ws://127.0.0.1:8003/ws"`
		Cursor  string `env:"CURSOR"`
		Since   string `env:"SINCE"`
		Durable bool   `env:"DURABLE"`
		Token   string `env:"TOKEN"` // not a flag: other users of the machine can see flags
		File    string `env:"TOKEN_FILE"`
	}{}
	if err := a.fromEnv(&own); err != nil {
		return nil, err
	}
	full := false
	c := &cobra.Command{
		Use:   "listen SUBSCRIBER",
		Short: "Print a subscriber's events",
		Long: "Connects to a gateway and prints the subscriber's events to stdout, one JSON object a\n" +
			"line. It reconnects by itself, goes on where it was, and says on stderr what it does.\n\n" +
			"With --durable it acknowledges every second what it has printed, and the next one begins\n" +
			"there, on whatever machine. Events printed after the last acknowledgement come again.\n\n" +
			"Where the gateway asks for a token: EVENTSTREAM_TOKEN, or --token-file.",
		Example: "  eventstream listen demo\n  eventstream listen --url wss://stream.example.org user_1 | jq .amount\n" +
			"  eventstream listen --since 1h user_1\n  eventstream listen --durable user_1 >> events.ndjson",
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
				URL: own.URL, SubscriberID: args[0], Cursor: own.Cursor, Since: own.Since, Durable: own.Durable, OnState: tell(a.log),
				Token: tokenSource(own.Token, own.File),
			}, slog.New(slog.DiscardHandler)) // tell logs it
			if err != nil {
				return usageError{err}
			}
			err = cl.Run(c.Context(), func(e client.Event) error { return printEvent(out, e, full) })
			switch cursor := cl.Cursor(); {
			case c.Context().Err() == nil:
			case own.Durable:
				a.log.Info("stopped; to go on from what is acknowledged: --durable")
			case cursor != "":
				a.log.Info("stopped; to go on from here: --cursor " + cursor)
			}
			return err
		},
	}
	fs := c.Flags()
	fs.StringVar(&own.URL, "url", own.URL, "gateway: ws, wss, http or https URL, or host:port")
	fs.StringVar(&own.Cursor, "cursor", own.Cursor, "where to go on; from now on if empty")
	fs.StringVar(&own.Since, "since", own.Since, "without --cursor: begin with the events since a time (2026-01-02T03:04:05Z) or of the last so long (1h30m)")
	fs.BoolVar(&own.Durable, "durable", own.Durable, "without --cursor and --since: begin after what was acknowledged last; and acknowledge what is printed")
	fs.StringVar(&own.File, "token-file", own.File, "file with the token, read again for each connection, and before the token ends: whatever writes it can renew it there")
	fs.BoolVar(&full, "full", false, "print id and time of each event too: {\"id\":…,\"ts\":…,\"data\":…}")
	return c, nil
}

// tokenSource returns the client's source of tokens; nil if there is none.
func tokenSource(token, file string) func(context.Context) (string, error) {
	switch {
	case file != "":
		return func(context.Context) (string, error) {
			b, err := os.ReadFile(file)
			return strings.TrimSpace(string(b)), err
		}
	case token != "":
		return func(context.Context) (string, error) { return token, nil }
	}
	return nil
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

// tell logs changes of the connection's state.
func tell(log *slog.Logger) func(client.State) {
	return func(s client.State) {
		switch s.Status {
		case client.Connected, client.Resumed:
			log.Info(s.Status.String(), "subscriber", s.SubscriberID)
		case client.Gap:
			log.Warn("events are missing", "reason", explain(s.Reason), "missing", ranges(s.Missing))
		case client.Disconnected:
			log.Warn("disconnected; reconnecting", "in", s.Retry.Round(time.Millisecond), "err", s.Err)
		}
	}
}

// explain returns the meaning of a gap's reason. An unknown one is returned as it is.
func explain(reason string) string {
	switch reason {
	case wire.GapTrimmed:
		return reason + ": they are past retention"
	case wire.GapLimit:
		return reason + ": they are older, or more, than the operator lets be replayed"
	case wire.GapUnknownAddress:
		return reason + ": the connection ended too long ago, and there is no replay from Kafka"
	case wire.GapLost:
		return reason + ": Kafka lost them, or gives their ids to other events"
	case wire.GapSkipped:
		return reason + ": an operator of the service had them passed over"
	case wire.GapCompacted:
		return reason + ": the topic is compacted, and Kafka has removed records there"
	case wire.GapTooLarge:
		return reason + ": larger than what was asked for with max_message"
	case wire.GapOtherTopic:
		return reason + ": the topic was deleted and made again"
	}
	return reason
}

// ranges lists missing events by their ids, only those of the first
// partitions if there are many.
func ranges(missing []wire.Missing) string {
	const most = 8
	var offsets int64
	var parts []string
	for i, m := range missing {
		offsets += m.To - m.From
		if i < most {
			parts = append(parts, fmt.Sprintf("%d-%d to %d-%d", m.Partition, m.From, m.Partition, m.To-1))
		}
	}
	switch {
	case len(missing) == 0:
		return "not known which"
	case len(missing) > most:
		parts = append(parts, fmt.Sprintf("%d more partitions", len(missing)-most))
	}
	return fmt.Sprintf("what matched among %d events: %s", offsets, strings.Join(parts, ", "))
}
