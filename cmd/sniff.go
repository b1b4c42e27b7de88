package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"eventstream/sniff"
	"eventstream/topic"
	"eventstream/topic/format"
)

func (a *app) sniffCommand() (*cobra.Command, error) {
	var kafka kafkaFlags
	var registry registryFlags
	if err := a.fromEnvAll(&kafka, &registry); err != nil {
		return nil, err
	}
	records, limit := 1000, 30*time.Second
	c := &cobra.Command{
		Use: "sniff", Short: "Look at a topic, and print the configuration that fits",
		Long: "Reads the last records of a topic, says what they are, and prints a file for --config in which\n" +
			"filters find type, user, amount and time. It guesses from names and values: read what it prints.\n" +
			"It writes nothing to Kafka.",
		Example: "  eventstream sniff --kafka kafka:9092 --topic orders > eventstream.yaml\n" +
			"  eventstream sniff --kafka kafka:9092 --topic orders --registry http://registry:8081",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if records < 1 || records > maxSniffed || limit <= 0 {
				return usageError{fmt.Errorf("--records: want 1 to %d; --limit: want more than 0", maxSniffed)}
			}
			if err := registry.check(&configFile{}); err != nil {
				return err
			}
			schemas, err := registry.open(&a.reloads, nil, a.log)
			if err != nil {
				return err
			}
			cfg, err := kafka.open(&a.reloads, a.log)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), limit)
			defer cancel()
			sample, err := topic.Sample(ctx, cfg, records, a.log)
			if err != nil {
				return err
			}
			if len(sample) == 0 {
				return errors.New("the topic has no records to look at")
			}
			if schemas == nil {
				return printReport(c.OutOrStdout(), kafka.Topic, nil, sniff.Look(sample, nil))
			}
			defer schemas.Close()
			frames := &frames{ctx: ctx, registry: schemas, kinds: make(map[uint32]format.Kind), broken: make(map[uint32]error)}
			return printReport(c.OutOrStdout(), kafka.Topic, registry.URLs, sniff.Look(sample, frames))
		},
	}
	kafka.add(c.Flags())
	registry.add(c.Flags())
	c.Flags().IntVar(&records, "records", records, "how many records to look at, about")
	c.Flags().DurationVar(&limit, "limit", limit, "how long to wait for them")
	return c, nil
}

const maxSniffed = 100_000

// frames reads values by the schemas of a registry, each of the format that its schema has.
type frames struct {
	ctx      context.Context
	registry *format.Registry
	kinds    map[uint32]format.Kind
	broken   map[uint32]error // ids whose schemas can't be had
}

// Open is sniff.Frames'.
func (f *frames) Open(value []byte) (kind string, data []byte, err error) {
	id, _, _ := topic.Frame(value)
	if err := f.broken[id]; err != nil {
		return "", nil, err
	}
	if f.kinds[id] == "" {
		if f.kinds[id], err = f.registry.KindOf(f.ctx, id); err != nil {
			f.broken[id] = err
			return "", nil, err
		}
	}
	data, err = format.New(f.kinds[id], f.registry).Append(f.ctx, nil, value)
	return string(f.kinds[id]), data, err
}

// printReport prints a file for --config. All other findings are comments in it.
func printReport(w io.Writer, topicName string, registry []string, rep sniff.Report) error {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, "# "+format+"\n", args...) }
	percent := func(n int) string { return fmt.Sprintf("%3d %%", 100*n/rep.Records) }
	line("%d records of topic %s", rep.Records, clean(topicName))
	line("")
	line("formats:")
	for _, f := range rep.Formats {
		line("  %s  %s", percent(f.N), f.What)
	}
	line("")
	if len(rep.Types) == 0 {
		line("No event type was found. Say where it is: see docs/sources.md.")
	} else {
		line("event types, with what follows:")
		for _, t := range rep.Types {
			line("  %s  %.80q", percent(t.N), t.What)
		}
	}
	if slices.ContainsFunc(rep.Formats, func(c sniff.Count) bool { return c.What == sniff.Framed }) {
		line("")
		line("Some records need a Schema Registry. Name it with --registry, and they are read, too.")
	}
	if rep.Partial {
		line("")
		line("The other records would be no events, and become dead letters.")
	}
	line("")
	if len(rep.Fields) == 0 {
		line("Nothing has to be mapped.")
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return err
	}
	text := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }
	fields := &yaml.Node{Kind: yaml.MappingNode}
	for _, g := range rep.Fields {
		place := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, LineComment: strings.TrimSpace(percent(g.N)) + " of the records have it"}
		if g.Field.Header != "" {
			place.Content = append(place.Content, text("header"), text(g.Field.Header))
		} else {
			place.Content = append(place.Content, text("path"), text(g.Field.Path))
		}
		if as := g.Field.As.String(); as != "" {
			place.Content = append(place.Content, text("as"), text(as))
		}
		fields.Content = append(fields.Content, text(g.Field.Name), place)
	}
	source := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text("topic"), text(topicName)}}
	if rep.Format != "" {
		source.Content = append(source.Content, text("format"), text(rep.Format))
	}
	if rep.Envelope != "" {
		source.Content = append(source.Content, text("envelope"), text(string(rep.Envelope)))
	}
	if len(rep.Fields) > 0 {
		source.Content = append(source.Content, text("map"), fields)
	}
	doc := &yaml.Node{Kind: yaml.MappingNode}
	if rep.Format != "" && len(registry) > 0 {
		urls := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, u := range registry {
			urls.Content = append(urls.Content, text(u))
		}
		doc.Content = append(doc.Content, text("registry"), urls)
	}
	doc.Content = append(doc.Content, text("sources"), &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{source}})
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return err
	}
	return enc.Close()
}

// clean replaces control characters, which a terminal would interpret.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
