package topic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"eventstream/internal/testenv"
)

func TestRetentionPassedThePosition(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 100)
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: cfg.Topic, Partition: 0, At: 40})
		if _, err := admin(t, cfg).DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		first := make(chan int64, 1)
		start(t, cfg, func(ctx context.Context, p *Partition) error {
			p.SeekTo(7)
			if recs, err := p.Next(ctx, patience); err == nil && len(recs) > 0 {
				first <- recs[0].Offset
			}
			<-ctx.Done()
			return nil
		})
		if got := within(t, first, "record"); got != 40 {
			t.Errorf("got offset %d, want the oldest, 40", got)
		}
	})
}

// A position that the log hasn't reached yet: nothing below it is delivered.
func TestLogEndsBeforeThePosition(t *testing.T) {
	onBoth(t, 1, func(t *testing.T, cfg Config) {
		fill(t, cfg, 0, 0, 10)
		ends, first := make(chan int64, 1), make(chan int64, 1)
		start(t, cfg, func(ctx context.Context, p *Partition) error {
			p.SeekTo(25)
			for p.End() < 0 && ctx.Err() == nil {
				if recs, _ := p.Next(ctx, 10*time.Millisecond); recs != nil {
					t.Errorf("got offset %d, want nothing", recs[0].Offset)
				}
			}
			ends <- p.End()
			if recs, err := p.Next(ctx, patience); err == nil && len(recs) > 0 {
				first <- recs[0].Offset
			}
			<-ctx.Done()
			return nil
		})
		if got := within(t, ends, "end"); got != 10 {
			t.Errorf("HighWatermark: got %d, want 10", got)
		}
		fill(t, cfg, 0, 10, 30)
		if got := within(t, first, "record"); got != 25 {
			t.Errorf("got offset %d, want 25", got)
		}
	})
}

func TestTopicGone(t *testing.T) {
	onBoth(t, 2, func(t *testing.T, cfg Config) {
		c, err := NewConsumer(cfg, nil, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		s, ended := newSink(), make(chan error, 1)
		go func() { ended <- c.Run(t.Context(), s.worker("a")) }()
		fill(t, cfg, 0, 0, 10)
		fill(t, cfg, 1, 0, 10)
		s.await(t, 2, 10, "a")
		if _, err := admin(t, cfg).DeleteTopic(t.Context(), cfg.Topic); err != nil {
			t.Fatal(err)
		}
		if _, err := Ensure(t.Context(), cfg, testenv.Log(t)); err != nil {
			t.Fatal(err)
		}
		fill(t, cfg, 0, 0, 100)
		if err := within(t, ended, "end of Run"); !errors.Is(err, ErrTopicGone) {
			t.Errorf("Run: got %v, want %v", err, ErrTopicGone)
		}
		if got := s.position(0); got != 10 {
			t.Errorf("got records up to %d, want none of the other topic", got)
		}
	})
}

func TestCorruptBatch(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		t.Run(fmt.Sprintf("skip=%t", skip), func(t *testing.T) {
			t.Parallel()
			_, cfg := embedded(t, 1)
			cfg.SkipCorrupt = skip
			fill(t, cfg, 0, 0, 10)
			writeCorrupt(t, cfg, 7)
			fill(t, cfg, 0, 17, 10)
			got := make(chan int64, 100)
			c, _ := start(t, cfg, func(ctx context.Context, p *Partition) error {
				p.SeekTo(0)
				for {
					recs, err := p.Next(ctx, time.Second)
					if err != nil {
						return nil
					}
					for _, r := range recs {
						got <- r.Offset
					}
				}
			})
			for want := range int64(10) {
				if o := within(t, got, "record"); o != want {
					t.Fatalf("got offset %d, want %d", o, want)
				}
			}
			if skip {
				if o := within(t, got, "record"); o != 17 {
					t.Errorf("got offset %d after the corrupt batch, want 17", o)
				}
			}
			testenv.Eventually(t, patience, func() error {
				if n := value(t, c.m.corrupt); n != 1 {
					return fmt.Errorf("got %v corrupt batches, want 1", n)
				}
				return nil
			})
			if !skip && len(got) > 0 {
				t.Errorf("got offset %d, want nothing after the corrupt batch", <-got)
			}
		})
	}
}

// writeCorrupt writes a batch whose records don't decompress. Only the embedded
// broker takes that.
func writeCorrupt(t *testing.T, cfg Config, records int32) {
	t.Helper()
	const lz4 = 3
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1,
		Magic:                2,
		Attributes:           lz4,
		LastOffsetDelta:      records - 1,
		FirstTimestamp:       time.Now().UnixMilli(),
		MaxTimestamp:         time.Now().UnixMilli(),
		ProducerID:           -1,
		ProducerEpoch:        -1,
		FirstSequence:        -1,
		NumRecords:           records,
		Records:              []byte("this was never compressed"),
	}
	raw := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))

	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	md, err := kadm.NewClient(cl).Metadata(t.Context(), cfg.Topic)
	if err != nil {
		t.Fatal(err)
	}
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = raw
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = cfg.Topic, md.Topics[cfg.Topic].ID, append(topic.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 5000, append(req.Topics, topic)
	resp, err := cl.Broker(int(md.Topics[cfg.Topic].Partitions[0].Leader)).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}
