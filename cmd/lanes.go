package cmd

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/user"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"eventstream/lane"
	"eventstream/topic"
)

func (a *app) lanesCommand() (*cobra.Command, error) {
	var kafka kafkaFlags
	var redis redisFlags
	if err := a.fromEnvAll(&kafka, &redis); err != nil {
		return nil, err
	}
	open := func(ctx context.Context, do func(context.Context, *lanesView) error) error {
		cfg, err := kafka.open(&a.reloads, a.log)
		if err != nil {
			return err
		}
		lanes, err := redis.open(&a.reloads, a.log)
		if err != nil {
			return err
		}
		defer lanes.Close()
		ctx, cancel := context.WithTimeout(ctx, skipTimeout)
		defer cancel()
		v, err := viewLanes(ctx, cfg, lanes, a.log)
		if err != nil {
			return err
		}
		return do(ctx, v)
	}
	show := showLanesCommand(open)
	c := &cobra.Command{
		Use:   "lanes",
		Short: "Show how far each partition is, and pass over a range of offsets",
		Long: "Shows each lane: where it is, from where it is complete, where its partition begins and ends in\n" +
			"Kafka, its lag, what Kafka lost, what is to be passed over, and what operators did.\n" +
			"Offsets that are reset in the consumer group are ignored: the positions are in Redis.\n" +
			"To have events of the past again, matched with today's filters: replay them (since, or the\n" +
			"API's GET /subscribers/{id}/events).",
		Example: "  eventstream lanes\n  eventstream lanes show --json\n  eventstream lanes skip --partition 3 --from 1200 --to 1201 --yes",
		Args:    noCommand,
		RunE:    show.RunE,
	}
	kafka.add(c.PersistentFlags())
	redis.add(c.PersistentFlags())
	c.PersistentFlags().VisitAll(hideDefault)
	c.Flags().AddFlagSet(show.Flags())
	c.AddCommand(show, skipLanesCommand(open))
	return c, nil
}

// withLanes passes what is known of the lanes.
type withLanes func(context.Context, func(context.Context, *lanesView) error) error

func showLanesCommand(open withLanes) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show", Short: "Show how far each partition is", Args: noArgs,
		Example: "  eventstream lanes show\n  eventstream lanes show --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return open(c.Context(), func(ctx context.Context, v *lanesView) error {
				if asJSON {
					enc := json.NewEncoder(c.OutOrStdout())
					enc.SetIndent("", "  ")
					return enc.Encode(v)
				}
				return v.print(c.OutOrStdout())
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", asJSON, "as JSON")
	return c
}

// lanesView is what Redis and Kafka say of all lanes.
type lanesView struct {
	Topic      string           `json:"topic"`
	ID         string           `json:"topic_id"`
	Shards     int32            `json:"shards"`
	Lanes      []laneView       `json:"lanes"`
	Operations []lane.Operation `json:"operations"` // the newest first

	redis *lane.Redis
	topic lane.Topic
}

// laneView is one partition of one shard. What is not known is null.
type laneView struct {
	Partition  int32       `json:"partition"`
	Shard      int32       `json:"shard"`
	Position   *int64      `json:"position"`
	First      *int64      `json:"first"`
	KafkaStart *int64      `json:"kafka_start"`
	KafkaEnd   *int64      `json:"kafka_end"`
	KafkaError string      `json:"kafka_error,omitempty"`
	Lag        *int64      `json:"lag"`
	Lost       *laneRange  `json:"lost"`
	Skipped    []laneRange `json:"skipped"`
}

// laneRange is a range of offsets. To is not included.
type laneRange struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func viewLanes(ctx context.Context, cfg topic.Config, lanes *lane.Redis, log *slog.Logger) (*lanesView, error) {
	t, err := lanes.Topic(ctx)
	if err != nil {
		return nil, err
	}
	info, starts, ends, err := topic.Bounds(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if info.ID != t.ID {
		return nil, fmt.Errorf("topic %s in Kafka is another one than that of the lanes in Redis: it was made anew, or --topic names another one", cfg.Topic)
	}
	v := &lanesView{Topic: info.Name, ID: hex.EncodeToString(t.ID[:]), Shards: max(t.Shards, 1), redis: lanes, topic: t, Lanes: []laneView{}}
	if v.Operations, err = lanes.Operations(ctx); err != nil {
		return nil, err
	}
	byShard := make([][]lane.Position, v.Shards)
	for i := range v.Shards {
		if byShard[i], err = lanes.Positions(ctx, v.shard(i), t.Partitions); err != nil {
			return nil, err
		}
	}
	for p := range t.Partitions {
		for i := range v.Shards {
			v.Lanes = append(v.Lanes, viewLane(i, byShard[i][p], starts[p], ends[p]))
		}
	}
	return v, nil
}

func (v *lanesView) shard(i int32) lane.Shard { return lane.Shard{Index: i, Of: v.Shards} }

func viewLane(shard int32, p lane.Position, start, end topic.Offset) laneView {
	out := laneView{Partition: p.Partition, Shard: shard, Skipped: []laneRange{}}
	if p.Next >= 0 {
		out.Position, out.First = &p.Next, &p.First
	}
	if err := errors.Join(start.Err, end.Err); err != nil {
		out.KafkaError = err.Error()
	} else {
		out.KafkaStart, out.KafkaEnd = &start.At, &end.At
	}
	if out.Position != nil && out.KafkaEnd != nil {
		lag := max(end.At-p.Next, 0)
		out.Lag = &lag
	}
	if p.Lost.To > 0 {
		out.Lost = &laneRange{p.Lost.From, p.Lost.To}
	}
	for _, s := range p.Skipped.All() {
		out.Skipped = append(out.Skipped, laneRange(s))
	}
	return out
}

func (v *lanesView) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "PARTITION\tSHARD\tPOSITION\tFIRST\tKAFKA START\tKAFKA END\tLAG\tLOST\tSKIPPED\n")
	for _, l := range v.Lanes {
		lost := "-"
		if l.Lost != nil {
			lost = l.Lost.String()
		}
		skipped := ""
		for _, s := range l.Skipped {
			skipped += " " + s.String()
		}
		if skipped == "" {
			skipped = " -"
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Partition, l.Shard,
			shown(l.Position), shown(l.First), shown(l.KafkaStart), shown(l.KafkaEnd), shown(l.Lag), lost, skipped[1:])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range v.Lanes {
		if l.KafkaError != "" && l.Shard == 0 {
			fmt.Fprintf(out, "partition %d: %s\n", l.Partition, l.KafkaError)
		}
	}
	for i, op := range v.Operations {
		if i == 0 {
			fmt.Fprintln(out, "\nWhat operators did, the newest first:")
		}
		fmt.Fprintf(out, "%s  %s  %s", op.At.UTC().Format(time.RFC3339), op.By, op.What)
		if op.Note != "" {
			fmt.Fprintf(out, "  (%s)", op.Note)
		}
		if op.Err != "" {
			fmt.Fprintf(out, "  failed: %s", op.Err)
		}
		fmt.Fprintln(out)
	}
	return nil
}

// String names the range by its first and last offset.
func (r laneRange) String() string { return fmt.Sprintf("%d to %d", r.From, r.To-1) }

func shown(n *int64) string {
	if n == nil {
		return "?"
	}
	return strconv.FormatInt(*n, 10)
}

// largeSkip is how many offsets are passed over without --force.
const largeSkip = 10_000

// skipRequest is what `lanes skip` is asked for.
type skipRequest struct {
	partition  int32
	from, to   int64
	note       string
	force, yes bool
}

func skipLanesCommand(open withLanes) *cobra.Command {
	r := skipRequest{partition: -1, from: -1, to: -1}
	c := &cobra.Command{
		Use:   "skip",
		Short: "Have the lanes of a partition pass over a range of offsets",
		Long: "Has the filter services pass over a range of offsets that they have not come to yet, such as\n" +
			"an event that they fail with. Its events are neither matched nor delivered, live or by a\n" +
			"replay, and clients are told of the range as a gap, skipped. That can't be taken back.\n" +
			"Without --yes it says what it would do. `eventstream lanes` shows what is to be passed over,\n" +
			"and who did that.",
		Example: "  eventstream lanes skip --partition 3 --from 1200 --to 1201 --note 'fails with 4711' --yes",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := r.check(); err != nil {
				return usageError{err}
			}
			return open(c.Context(), func(ctx context.Context, v *lanesView) error { return v.skip(ctx, r, c.OutOrStdout()) })
		},
	}
	fs := c.Flags()
	fs.Int32Var(&r.partition, "partition", r.partition, "the partition")
	fs.Int64Var(&r.from, "from", r.from, "the first offset to pass over")
	fs.Int64Var(&r.to, "to", r.to, "the offset to go on with")
	fs.StringVar(&r.note, "note", r.note, "why, for the record")
	fs.BoolVar(&r.force, "force", r.force, fmt.Sprintf("also more than %d offsets", largeSkip))
	fs.BoolVar(&r.yes, "yes", r.yes, "do it")
	return c
}

// check finds what is wrong whatever the lanes are.
func (r *skipRequest) check() error {
	const maxNote = 200
	switch {
	case r.partition < 0 || r.from < 0 || r.to < 0:
		return errors.New("--partition, --from and --to are needed, and none is negative")
	case r.from >= r.to:
		return fmt.Errorf("--from %d is not below --to %d: the offset of --to is the first that is delivered again", r.from, r.to)
	case len(r.note) > maxNote:
		return fmt.Errorf("--note has %d bytes, and at most %d are allowed", len(r.note), maxNote)
	}
	return nil
}

// refuse finds why a range can't be passed over by a partition's lanes.
func (r *skipRequest) refuse(v *lanesView) error {
	if r.partition >= v.topic.Partitions {
		return fmt.Errorf("there is no partition %d: topic %s has 0 to %d", r.partition, v.Topic, v.topic.Partitions-1)
	}
	for _, l := range v.Lanes {
		if l.Partition != r.partition {
			continue
		}
		switch {
		case l.KafkaError != "":
			return fmt.Errorf("where partition %d begins and ends in Kafka is not known: %s", r.partition, l.KafkaError)
		case r.to > *l.KafkaEnd:
			return fmt.Errorf("--to %d is beyond the partition's end: the highest allowed is %d", r.to, *l.KafkaEnd)
		case r.from < *l.KafkaStart:
			return fmt.Errorf("--from %d is too old: Kafka's retention has passed it, and the partition begins at %d", r.from, *l.KafkaStart)
		case l.Position == nil:
			return fmt.Errorf("shard %d has no lane of partition %d: wait until a filter service has begun one", l.Shard, r.partition)
		case r.from < *l.Position:
			return fmt.Errorf("--from %d is past: the lane of shard %d is at %d, and what is below was matched and may have been delivered; the lowest allowed is %d", r.from, l.Shard, *l.Position, *l.Position)
		case len(l.Skipped) >= lane.MaxSkips:
			return fmt.Errorf("shard %d has %d ranges to pass over already, which is the most; they are forgotten when Kafka's retention has passed them", l.Shard, lane.MaxSkips)
		}
		for _, s := range l.Skipped {
			if r.from < s.To && s.From < r.to {
				return fmt.Errorf("the range overlaps with one that is passed over already: %s", s)
			}
		}
	}
	if r.to-r.from > largeSkip && !r.force {
		return fmt.Errorf("%d offsets are more than %d; --force passes over them all the same", r.to-r.from, largeSkip)
	}
	return nil
}

func (v *lanesView) skip(ctx context.Context, r skipRequest, out io.Writer) error {
	if err := r.refuse(v); err != nil {
		return err
	}
	fmt.Fprintf(out, "partition %d: offsets %s of %d shards are to be passed over\n", r.partition, laneRange{r.from, r.to}, v.Shards)
	if !r.yes {
		fmt.Fprintln(out, "nothing was changed; --yes does it")
		return nil
	}
	op := lane.Operation{
		At: time.Now().UTC().Truncate(time.Second), By: operator(), Note: r.note,
		What: fmt.Sprintf("lanes skip --partition %d --from %d --to %d", r.partition, r.from, r.to),
	}
	if err := v.redis.NoteOperation(ctx, op); err != nil { // nothing is done without a record
		return err
	}
	var failed error
	for i := range v.Shards {
		if err := v.redis.Skip(ctx, v.shard(i), r.partition, v.topic.ID, lane.Skip{From: r.from, To: r.to}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("shard %d: %w", i, err))
			continue
		}
		fmt.Fprintf(out, "partition %d, shard %d: noted\n", r.partition, i)
	}
	if failed != nil {
		op.Err = failed.Error()
		return errors.Join(failed, v.redis.NoteOperation(ctx, op))
	}
	return nil
}

// operator names who runs us.
func operator() string {
	name, host := "?", "?"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	by := name + "@" + host
	return by[:min(len(by), math.MaxUint8)]
}
