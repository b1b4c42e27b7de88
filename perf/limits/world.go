//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/event"
	"eventstream/filter"
	"eventstream/lane"
	"eventstream/perf/stack"
	"eventstream/perf/workload"
	"eventstream/wire"
)

// world is our services, and everybody's events. The subscribers sit at a gateway that
// does not exist: so the one that does reads all lanes, and has nobody to write to but
// one client, who gets an event of each partition when everything is read.
type world struct {
	cfg      config
	name     string
	stack    *stack.Stack
	lanes    *lane.Redis
	redis    rueidis.Client
	kafka    *kgo.Client
	witness  *websocket.Conn
	produced int64 // so far

	filter, gateway int // process IDs
}

const partitions = 6

func open(ctx context.Context, cfg config) (w *world, err error) {
	w = &world{cfg: cfg, name: fmt.Sprintf("limits_%d", time.Now().UnixMilli())}
	exe, err := filepath.Abs(cfg.exe)
	if err != nil {
		return nil, err
	}
	w.stack, err = stack.Ours(ctx, stack.Config{
		Dir: filepath.Join(cfg.out, "logs"), Name: w.name, Exe: exe, Partitions: partitions, Env: []string{"EVENTSTREAM_LOG_LEVEL=warn"},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for _, p := range w.stack.Parts {
		switch kind, _, _ := strings.Cut(p.Name, "-"); kind {
		case "filter":
			w.filter = p.PID
		case "gateway":
			w.gateway = p.PID
		}
	}
	if w.lanes, err = lane.NewRedis(lane.RedisConfig{Addr: w.stack.Redis}, slog.Default()); err != nil {
		return nil, err
	}
	if w.redis, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{w.stack.Redis}, DisableCache: true, ReadBufferEachConn: 64 << 10}); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if w.kafka, err = kgo.NewClient(kgo.SeedBrokers(w.stack.Brokers...), kgo.DefaultProduceTopic(w.stack.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return w, w.subscribe(ctx)
}

// subscribe stores all filters, seats the subscribers, and waits until events are
// matched with both.
func (w *world) subscribe(ctx context.Context) error {
	specs := append(workload.Narrow.Specs(w.cfg.filters),
		filter.Spec{SubscriberID: "end", EventTypes: []string{w.end()}},
		filter.Spec{SubscriberID: "witness", EventTypes: []string{w.name}})
	if err := w.store(ctx, specs); err != nil {
		return err
	}
	seated := make([]lane.Seated, w.cfg.filters+1) // not the witness
	for i := range seated {
		seated[i] = lane.Seated{Seat: event.Seat(i + 1), Subscriber: specs[i].SubscriberID}
	}
	at, err := w.lanes.Announce(ctx, lane.Announcement{Gateway: 1, Seq: 1, TTL: time.Hour, All: true, Joined: seated})
	if err != nil {
		return err
	}
	return w.await(ctx, func(all []lane.Position) bool {
		return !slices.ContainsFunc(all, func(p lane.Position) bool { return p.Synced.Compare(at) < 0 })
	})
}

// connect connects the witness, and returns when events are matched for it. The gateway
// would not wait for a client of which it hears nothing, so this is done every time.
func (w *world) connect(ctx context.Context) (err error) {
	if w.witness, _, err = websocket.Dial(ctx, w.stack.WS+"?subscriber_id=witness", nil); err != nil {
		return fmt.Errorf("connect to the gateway: %w", err)
	}
	w.witness.SetReadLimit(-1)
	_, err = w.hear(ctx) // hello
	return err
}

func (w *world) store(ctx context.Context, specs []filter.Spec) error {
	var lines bytes.Buffer
	e := json.NewEncoder(&lines)
	for _, s := range specs {
		if err := e.Encode(s); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.stack.API+"/filters:import", &lines)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("store filters: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errors.New("store filters: " + resp.Status)
	}
	return nil
}

func (w *world) hear(ctx context.Context) (m wire.Message, err error) {
	_, b, err := w.witness.Read(ctx)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read from the gateway: %w", err)
	}
	return m, nil
}

const patience = 3 * time.Minute // for what is measured

// await waits until all partitions are where they should be.
func (w *world) await(ctx context.Context, there func([]lane.Position) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for every := time.Tick(2 * time.Millisecond); ; {
		all, err := w.lanes.Positions(ctx, lane.Shard{}, partitions)
		if err != nil {
			return err
		}
		if there(all) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the filter service is at %+v after %s: %w", all, patience, ctx.Err())
		case <-every:
		}
	}
}

// positions returns where each partition is.
func (w *world) positions(ctx context.Context) (next [partitions]int64, err error) {
	all, err := w.lanes.Positions(ctx, lane.Shard{}, partitions)
	for i, p := range all {
		next[i] = p.Next
	}
	return next, err
}

func (w *world) close() {
	if w.kafka != nil {
		w.kafka.Close()
	}
	if w.redis != nil {
		w.redis.Close()
	}
	if w.lanes != nil {
		w.lanes.Close()
	}
	if err := w.stack.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "limits:", err)
	}
}
