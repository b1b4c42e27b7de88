package store_test

import (
	"fmt"
	"testing"

	"eventstream/event"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// BenchmarkSaveAcks saves a batch of subscribers again and again, each a bit further.
func BenchmarkSaveAcks(b *testing.B) {
	for _, n := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			s, batch := benchStore(b), acksOf(n)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch {
					batch[i].Cursor.Next[3]++
				}
				if err := s.SaveAcks(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAckTotals is what an API does every now and then.
func BenchmarkAckTotals(b *testing.B) {
	const n = 100_000
	s, batch := benchStore(b), acksOf(n)
	for len(batch) > 0 {
		if err := s.SaveAcks(b.Context(), batch[:10_000]); err != nil {
			b.Fatal(err)
		}
		batch = batch[10_000:]
	}
	b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
		for b.Loop() {
			t, err := s.AckTotals(b.Context(), ack("").Cursor.Topic, make([]int64, 12))
			if err != nil || t.Subscribers != n {
				b.Fatal(t, err)
			}
		}
	})
}

func benchStore(b *testing.B) *store.Postgres {
	s, err := store.NewPostgres(testenv.Postgres(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s
}

// acksOf returns one acknowledgement for each of n subscribers, over 12 partitions.
func acksOf(n int) []event.Ack {
	acks := make([]event.Ack, n)
	for i := range acks {
		acks[i] = ack(fmt.Sprintf("user_%d", i), make([]int64, 12)...)
		for p := range acks[i].Cursor.Next {
			acks[i].Cursor.Next[p] = 1e9
		}
	}
	return acks
}
