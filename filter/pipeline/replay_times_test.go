package pipeline

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"eventstream/filter"
	"eventstream/replay"
	"eventstream/wire"
)

// A producer's clock that is 50 minutes ahead, and records that come two hours late, are no
// reason to leave out what was asked for, or to give what was not. What is read is what a
// replay by offsets would read, and for until what lies within TimeSkew behind it.
func TestReplayByOwnTimes(t *testing.T) {
	onBothKafkas(t, 1, func(t *testing.T, w *world) {
		begin := time.Now().Add(-10 * time.Hour).Truncate(time.Second)
		at := func(minutes int) time.Time { return begin.Add(time.Duration(minutes) * time.Minute) }
		for i := range 500 { // one a minute, each a batch
			minute := i
			switch i {
			case 100, 101:
				minute = i + 50
			case 300:
				minute = i - 120
			}
			w.write(&kgo.Record{Timestamp: at(minute), Value: []byte(`{"event_type":"a"}`)})
		}
		var mu sync.Mutex
		var reads []int64
		w.wrap = func(k Kafka) Kafka {
			return tap{k, func(from int64) {
				mu.Lock()
				defer mu.Unlock()
				reads = append(reads, from)
			}}
		}
		s := w.start()
		c := s.client(t)
		serves(t, c)
		w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
		for _, tt := range []struct {
			what         string
			since, until int // minutes; 0 for none
			from, to     int64
			want         [][]int64
			lost         []replay.Lost
			reads        [2]int64 // where it may read from
		}{
			{what: "until a time that a clock was ahead of", since: 90, until: 140, want: [][]int64{span(90, 100), span(102, 140)}, reads: [2]int64{90, 200}},
			{what: "the time that it was at", since: 150, until: 152, want: [][]int64{{100, 101}, span(150, 152)}, reads: [2]int64{100, 212}},
			{what: "since a time after the record that is late", since: 200, want: [][]int64{span(200, 300), span(301, 500)}, reads: [2]int64{200, 500}},
			{what: "the time of the record that is late, which lies beyond what is read", since: 170, until: 190, want: [][]int64{span(170, 190)}, reads: [2]int64{170, 250}},
			{what: "a time that is read over it", since: 170, until: 260, want: [][]int64{span(170, 260), {300}}, lost: []replay.Lost{{From: 320, To: 500, Reason: wire.GapLimit}}, reads: [2]int64{170, 320}},
			{what: "until now", since: 400, until: 600, want: [][]int64{span(400, 500)}, reads: [2]int64{400, 500}},
			{what: "offsets, and only what is not older", since: 150, from: 90, to: 160, want: [][]int64{{100, 101}, span(150, 160)}, reads: [2]int64{90, 160}},
		} {
			r := replay.Request{Subscriber: "ann", Since: at(tt.since)}
			if tt.until > 0 {
				r.Until = at(tt.until)
			}
			if tt.to > 0 {
				r.From, r.To = []int64{tt.from}, []int64{tt.to}
			}
			mu.Lock()
			reads = nil
			mu.Unlock()
			got := mustAsk(t, c, r)
			want := slices.Sorted(slices.Values(slices.Concat(tt.want...)))
			if !slices.Equal(got.offsets[0], want) || !slices.Equal(got.lost, tt.lost) {
				t.Errorf("%s: got %v, lost %+v; want %v, lost %+v", tt.what, got.offsets[0], got.lost, want, tt.lost)
			}
			mu.Lock()
			for _, from := range reads {
				if from < tt.reads[0] || from >= tt.reads[1] {
					t.Errorf("%s: read from %d, want from %d on, below %d", tt.what, from, tt.reads[0], tt.reads[1])
				}
			}
			mu.Unlock()
		}
	})
}

// Whatever the times are, a replay gives exactly the records of the time asked for, if they
// are not further out of order than TimeSkew. If they are, it gives no others, and those that
// it leaves out lie behind where it may stop.
func TestReplayTimesAreTheDefinition(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	disorder := []time.Duration{0, time.Minute, 59 * time.Minute, 3 * time.Hour} // at most, of each partition
	w := newWorld(t, int32(len(disorder)))
	w.cfg.TimeSkew = time.Hour
	const records, each = 400, 2 * time.Minute
	begin := time.Now().Add(-records * each).Truncate(time.Second)
	stamps := make([][]time.Time, len(disorder))
	for p, most := range disorder {
		for batch := range slices.Chunk(span(0, records), 1+rng.IntN(9)) {
			var recs []*kgo.Record
			for _, i := range batch {
				stamp := begin.Add(time.Duration(i) * each)
				if most > 0 && rng.IntN(4) == 0 { // half of it ahead, half of it behind
					stamp = stamp.Add(time.Duration(rng.Int64N(int64(most))) - most/2)
				}
				stamps[p] = append(stamps[p], stamp.Truncate(time.Millisecond))
				recs = append(recs, &kgo.Record{Partition: int32(p), Timestamp: stamp, Value: []byte(`{"event_type":"a"}`)})
			}
			w.write(recs...)
		}
	}
	s := w.start()
	c := s.client(t)
	serves(t, c)
	w.want(filter.Spec{SubscriberID: "ann", MatchAll: true})
	told := 0
	for range 60 {
		since := begin.Add(time.Duration(rng.Int64N(int64(records * each))))
		until := since.Add(time.Duration(rng.Int64N(int64(6 * time.Hour))))
		got := mustAsk(t, c, replay.Request{Subscriber: "ann", Since: since, Until: until})
		since, until = since.Truncate(time.Millisecond), until.Truncate(time.Millisecond)
		for p, most := range disorder {
			stop := slices.IndexFunc(stamps[p], func(at time.Time) bool { return !at.Before(until.Add(w.cfg.TimeSkew)) })
			if stop < 0 {
				stop = records
			}
			var want []int64
			for i, at := range stamps[p] {
				if at.Before(since) || !at.Before(until) || most > w.cfg.TimeSkew && i >= stop {
					continue
				}
				want = append(want, int64(i))
			}
			lost := slices.ContainsFunc(got.lost, func(l replay.Lost) bool {
				if l.Partition == int32(p) && (l.From != int64(stop) || l.To != records) {
					t.Errorf("partition %d: lost %+v, want it from %d on", p, l, stop)
				}
				return l.Partition == int32(p)
			})
			if lost {
				told++
			}
			if !slices.Equal(got.offsets[p], want) || lost && most <= w.cfg.TimeSkew {
				t.Fatalf("seed %d, partition %d, from %s to %s: got %v, a gap: %t, want %v", seed, p, since, until, got.offsets[p], lost, want)
			}
		}
	}
	if told == 0 {
		t.Errorf("seed %d: no replay over times that are far out of order told that it does not know the rest", seed)
	}
}

// Times that are out of order are noticed, whatever a replay is read in.
func TestTimesLook(t *testing.T) {
	record := func(offset, minute int64) *kgo.Record {
		return &kgo.Record{Offset: offset, Timestamp: time.UnixMilli(minute * 60_000)}
	}
	type look struct{ from, to int64 }
	log := []*kgo.Record{record(0, 10), record(1, 90), record(3, 30), record(4, 29), record(5, 200)}
	for _, tt := range []struct {
		looks []look
		want  bool
	}{
		{nil, false},
		{[]look{{0, 4}}, false},
		{[]look{{0, 5}}, true},
		{[]look{{0, 2}, {2, 5}}, true},
		{[]look{{3, 6}}, false},
		{[]look{{0, 4}, {0, 4}}, false},
		{[]look{{5, 6}, {0, 4}}, false}, // what was looked at is not looked at again
	} {
		times := timesOf(replay.Request{Until: time.Now()}, time.Hour)
		for _, l := range tt.looks {
			times.look(log, l.from, l.to)
		}
		if times.disorder != tt.want {
			t.Errorf("%v: disorder %t, want %t", tt.looks, times.disorder, tt.want)
		}
	}
	all := allTimes
	if all.look(log, 0, 6); all.disorder || !all.has(record(0, -1<<40)) || !all.has(record(0, 1<<40)) {
		t.Error("a replay without times leaves something out")
	}
	if since := timesOf(replay.Request{Since: time.UnixMilli(60_000)}, time.Hour); since.has(record(0, 0)) || !since.has(record(0, 1)) {
		t.Error("since a minute: want what is of that minute, and nothing before")
	}
}
