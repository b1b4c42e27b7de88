//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/perf/workload"
)

// How many filters an event matches.
const (
	noMatch    = 0
	tenMatches = 10
)

const users = 1000 // whose events they are: the keys, which spread them over the partitions

// lines are events that match so many filters, one of each user.
func (w *world) lines(matches int) []byte {
	one := workload.Narrow.Event(matches, w.cfg.filters)
	var all []byte
	for i := range users {
		all = append(all, bytes.Replace(one, []byte("user_48213"), fmt.Appendf(nil, "user_%05d", i), 1)...)
		all = append(all, '\n')
	}
	return all
}

// kafkaProducer has Kafka's own producer produce.
func (w *world) kafkaProducer(ctx context.Context, t *table, matches int) error {
	if len(w.cfg.java) == 0 {
		return nil
	}
	file := filepath.Join(w.cfg.out, "events.ndjson")
	if err := os.WriteFile(file, w.lines(matches), 0o644); err != nil {
		return err
	}
	out, f, err := w.tool(ctx, "ProducerPerformance", "--topic", w.stack.Topic, "--num-records", strconv.Itoa(w.cfg.events),
		"--throughput", "-1", "--payload-file", file, "--producer-props", "bootstrap.servers="+w.stack.Brokers[0])
	if err != nil {
		return err
	}
	var rate float64
	if _, err := fmt.Sscanf(last(out), "%d records sent, %f records/sec", &f.events, &rate); err != nil || f.events != w.cfg.events {
		return fmt.Errorf("producer of Kafka ended with %q: %v", last(out), err)
	}
	f.took = time.Duration(float64(f.events) / rate * float64(time.Second))
	w.produced += int64(f.events)
	t.add(producerBare, f)
	return nil
}

// kafkaConsumer has Kafka's own consumer read from the beginning.
func (w *world) kafkaConsumer(ctx context.Context, t *table) error {
	if len(w.cfg.java) == 0 {
		return nil
	}
	out, f, err := w.tool(ctx, "ConsumerPerformance", "--topic", w.stack.Topic, "--messages", strconv.Itoa(w.cfg.events),
		"--bootstrap-server", w.stack.Brokers[0], "--group", w.name+"-java", "--hide-header")
	if err != nil {
		return err
	}
	fields := strings.Split(last(out), ", ") // start, end, MB, MB/s, records, records/s, ms of rebalancing, ms of fetching, …
	if len(fields) < 8 {
		return fmt.Errorf("consumer of Kafka ended with %q", last(out))
	}
	ms, err := strconv.Atoi(fields[7])
	if err == nil {
		f.events, err = strconv.Atoi(fields[4])
	}
	if err != nil {
		return fmt.Errorf("consumer of Kafka ended with %q: %v", last(out), err)
	}
	f.took = time.Duration(ms) * time.Millisecond
	t.add(consumerBare, f)
	return nil
}

// tool runs one of Kafka's tools. The CPU time includes the start of its JVM.
func (w *world) tool(ctx context.Context, name string, args ...string) (out string, f figure, err error) {
	cmd := exec.CommandContext(ctx, w.cfg.java[0], append(append(w.cfg.java[1:len(w.cfg.java):len(w.cfg.java)], "org.apache.kafka.tools."+name), args...)...)
	return output(cmd)
}

func output(cmd *exec.Cmd) (out string, f figure, err error) {
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		return "", f, fmt.Errorf("%s: %w: %s%s", filepath.Base(cmd.Path), err, said.Bytes(), complained.Bytes())
	}
	f.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return said.String(), f, nil
}

// last returns the last line.
func last(out string) string {
	out = strings.TrimSpace(out)
	return out[strings.LastIndexByte(out, '\n')+1:]
}

// ourProducer has `eventstream producer` produce, and measures it if there is a table.
func (w *world) ourProducer(ctx context.Context, t *table, matches int) error {
	cmd := exec.CommandContext(ctx, w.cfg.exe, "producer", "--file", "-")
	cmd.Env = append(os.Environ(), "EVENTSTREAM_KAFKA="+strings.Join(w.stack.Brokers, ","), "EVENTSTREAM_TOPIC="+w.stack.Topic,
		fmt.Sprint("EVENTSTREAM_TOPIC_PARTITIONS=", partitions), "EVENTSTREAM_LOG_LEVEL=warn")
	lines := w.lines(matches)
	var all []io.Reader
	for n := w.cfg.events; n > 0; n -= users {
		all = append(all, bytes.NewReader(lines[:len(lines)/users*min(n, users)]))
	}
	cmd.Stdin = io.MultiReader(all...)
	out, f, err := output(cmd)
	if err != nil {
		return err
	}
	var failed, bad int
	var took string
	var rate float64
	if _, err := fmt.Sscanf(last(out), "%d acknowledged, %d failed, %d bad lines; %s %f events/s", &f.events, &failed, &bad, &took, &rate); err != nil || f.events != w.cfg.events {
		return fmt.Errorf("our producer ended with %q: %v", last(out), err)
	}
	f.took = time.Duration(float64(f.events) / rate * float64(time.Second))
	w.produced += int64(f.events)
	if t != nil {
		t.add(producerOurs, f)
	}
	return nil
}

// consume takes the events since some offsets off Kafka, and does nothing with them.
func (w *world) consume(ctx context.Context, t *table, from [partitions]int64) error {
	offsets := make(map[int32]kgo.Offset)
	for p, at := range from {
		offsets[int32(p)] = kgo.NewOffset().At(max(at, 0))
	}
	f, err := measure(os.Getpid(), w.cfg.events, func() error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		c, err := kgo.NewClient(kgo.SeedBrokers(w.stack.Brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{w.stack.Topic: offsets}))
		if err != nil {
			return err
		}
		defer c.Close()
		for n := 0; n < w.cfg.events; {
			fetches := c.PollFetches(ctx)
			if errs := fetches.Errors(); len(errs) > 0 {
				return errors.Join(errs[0].Err, ctx.Err())
			}
			n += fetches.NumRecords()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bare consumer: %w", err)
	}
	t.add(consumerLoop, f)
	return nil
}
