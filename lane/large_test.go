package lane

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// slowLink passes what a server sends at so many bytes a second, and returns where to
// connect to. All connections share that.
func slowLink(t *testing.T, server string, rate int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	const tick = 10 * time.Millisecond
	credit := make(chan int)
	go func() {
		for range time.Tick(tick) {
			select {
			case credit <- rate / int(time.Second/tick):
			case <-t.Context().Done():
				return
			}
		}
	}()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			go func() { io.Copy(up, client); up.Close() }()
			go func() {
				defer client.Close()
				for {
					select {
					case n := <-credit:
						if _, err := io.CopyN(client, up, int64(n)); err != nil {
							return
						}
					case <-t.Context().Done():
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Who is far behind, in lanes of large events, behind a link that does not bring them in
// the time that a read may take, gets them all the same, some at a time.
func TestTailLargeEvents(t *testing.T) {
	t.Parallel()
	const partitions, each, size = 6, 12, 3 << 20
	server := testenv.Redis(t, testenv.RedisOptions{})
	w := newRedis(t, RedisConfig{Addr: server.Addr})
	for p := range int32(partitions) {
		must[int64](t)(w.Claim(t.Context(), Shard{}, p, topicA, 0, 0))
		for i := range int64(each) {
			must[int64](t)(w.Append(t.Context(), Append{Partition: p, Topic: topicA, Expect: i, Next: i + 1, Last: i, Entry: make([]byte, size)}))
		}
	}
	r, err := NewRedis(RedisConfig{Addr: slowLink(t, server.Addr, 30<<20)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := make([]int64, partitions)
	for reads, failed := 0, 0; ; failed++ {
		err := r.Tail(ctx, Shard{}, next, func(b Batch) error {
			bytes := 0
			for _, e := range b.Entries {
				if e.Last != next[e.Partition] {
					t.Errorf("partition %d: got %d, want %d", e.Partition, e.Last, next[e.Partition])
				}
				next[e.Partition] = e.Last + 1
				bytes += len(e.Blob)
			}
			if most := firstEntries * size; reads == 0 && bytes > most || reads > 0 && bytes > defaultReadBytes+size {
				t.Errorf("read %d has %d bytes", reads, bytes)
			}
			if reads++; min(next[0], next[1], next[2], next[3], next[4], next[5]) == each {
				cancel()
			}
			return nil
		})
		if ctx.Err() != nil {
			break
		}
		t.Logf("failed after %d reads, at %d: %v", reads, next, err)
	}
	if min(next[0], next[1], next[2], next[3], next[4], next[5]) != each {
		t.Errorf("got up to %d, want %d of each", next, each)
	}
	// A part of a lane, for one who catches up.
	n := 0
	if first, err := r.Range(t.Context(), Shard{}, 3, 0, each, func(Entry) error { n++; return nil }); err != nil || first != 0 || n != each {
		t.Errorf("Range: %d entries from %d on, %v; want %d", n, first, err, each)
	}
}
