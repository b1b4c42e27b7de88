package lane

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"eventstream/event"
	"pgregory.net/rapid"
)

// packed is one event of an entry, the obvious way.
type packed struct {
	offset, time int64
	data         string
	to           []Group
}

func pack(p *Packer, events []packed) []byte {
	p.Reset()
	for _, e := range events {
		p.Add(e.offset, e.time, []byte(e.data), e.to)
	}
	return p.Bytes()
}

func unpack(b []byte) (out []packed, err error) {
	var u Unpacker
	for u.Open(b); u.Next(); {
		e := packed{offset: u.Offset, time: u.TimeMs, data: string(u.Data)}
		for g, seats := range u.Groups() {
			e.to = append(e.to, Group{u.Gateways[g], RunsOf(seats.Append(nil)...)})
		}
		out = append(out, e)
	}
	return out, u.Err()
}

var golden = []packed{
	{1000, 1_700_000_000_000, `{"event_type":"a"}`, []Group{
		{0x1122334455667788, RunsOf(3, 5, 300)},
		{0xff, RunsOf(7)},
	}},
	{1001, 1_700_000_000_250, `{}`, []Group{
		{0xff, RunsOf(100, 101, 103, 104, 106, 107, 109, 123)}, // a bitmap is shorter
	}},
	{1200, 1_699_999_999_999, `{"n":1}`, []Group{
		{0xabcdef, RunsOf(math.MaxUint32)},
	}},
}

// Entries outlive the program that wrote them: a new one must read them.
func TestEntryGolden(t *testing.T) {
	file := filepath.Join("testdata", "entry.hex")
	got := hex.EncodeToString(pack(new(Packer), golden))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; the entry would be\n%s", err, got)
	}
	want := strings.Join(strings.Fields(string(text)), "")
	check(t, "packed", got, want)
	b, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := unpack(b); err != nil || !reflect.DeepEqual(back, golden) {
		t.Errorf("unpacked %+v, %v; want %+v", back, err, golden)
	}
}

// drawSeats draws ascending seats, sparse or dense.
func drawSeats(t *rapid.T) []event.Seat {
	first := rapid.Uint32().Draw(t, "first")
	gaps := rapid.SliceOfN(rapid.Uint32Range(1, rapid.SampledFrom([]uint32{1, 3, 20, 1 << 20}).Draw(t, "gap")), 0, 200).Draw(t, "gaps")
	out := []event.Seat{event.Seat(first)}
	for _, gap := range gaps {
		next := uint64(out[len(out)-1]) + uint64(gap)
		if next > math.MaxUint32 {
			break
		}
		out = append(out, event.Seat(next))
	}
	return out
}

func drawEvents(t *rapid.T) []packed {
	gateways := rapid.SliceOfNDistinct(rapid.Uint64(), 1, 5, rapid.ID[uint64]).Draw(t, "gateways")
	offset := rapid.Int64Range(0, 1<<62).Draw(t, "offset")
	var out []packed
	for range rapid.IntRange(0, 20).Draw(t, "events") {
		e := packed{offset: offset, time: rapid.Int64().Draw(t, "time"), data: rapid.String().Draw(t, "data")}
		for _, g := range gateways[:rapid.IntRange(0, len(gateways)).Draw(t, "groups")] {
			e.to = append(e.to, Group{event.Gateway(g), RunsOf(drawSeats(t)...)})
		}
		out = append(out, e)
		offset += rapid.Int64Range(1, 1<<40).Draw(t, "step")
	}
	return out
}

func TestEntryRoundTrip(t *testing.T) {
	var p Packer // one for all: nothing may be left over from the entry before
	rapid.Check(t, func(t *rapid.T) {
		want := drawEvents(t)
		b := pack(&p, want)
		got, err := unpack(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("unpacked %+v, %v; want %+v", got, err, want)
		}
		if p.Count() != len(want) || len(want) > 0 && p.Last() != want[len(want)-1].offset {
			t.Fatalf("Count = %d, Last = %d, want those of %+v", p.Count(), p.Last(), want)
		}
		if diff := p.Len() - len(b); diff < -16 || diff > 16 {
			t.Fatalf("Len = %d of %d bytes", p.Len(), len(b))
		}
	})
}

// Seats in clusters, with holes of many words between them, in either kind.
func TestSeatsClustered(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bitmaps := 0
	for range 500 {
		var seats []event.Seat
		seat := event.Seat(rng.Uint32N(1000))
		for range 1 + rng.IntN(20) {
			seat += event.Seat(rng.Uint32N(600))
			for range 1 + rng.IntN(300) {
				seat += 1 + event.Seat(rng.Uint32N(8))
				seats = append(seats, seat)
			}
		}
		u := Unpacker{rest: new(Packer).appendRuns(nil, RunsOf(seats...))}
		head := u.uvarint(math.MaxInt32)
		bitmaps += int(head & 1)
		if got := (Seats{body: u.take(head >> 1), bitmap: head&1 == 1}).Append(nil); !slices.Equal(got, seats) {
			t.Fatalf("bitmap %t: seats %v, want %v", head&1 == 1, got, seats)
		}
	}
	if bitmaps == 0 || bitmaps == 500 {
		t.Errorf("%d of 500 were bitmaps, want some of each kind", bitmaps)
	}
}

// Both kinds hold the same seats, and the shorter one is taken; of many seats, a
// bitmap that is not much longer.
func TestSeatsShorter(t *testing.T) {
	for _, tt := range []struct {
		name       string
		n          int
		gap, first event.Seat
		bitmap     bool
		bytes      int
	}{
		{"one", 1, 1, 5, false, 1},
		{"one, large", 1, 1, math.MaxUint32, false, 5},
		{"all", 800, 1, 0, true, 101},
		{"every second", 800, 2, 1000, true, 202},
		{"every tenth", 800, 10, 1000, false, 801},
		{"every tenth of many", 1100, 10, 1000, true, 1376},
		{"every hundredth of many", 1100, 100, 1000, false, 1101},
		{"every thousandth", 800, 1000, 1000, false, 1600},
	} {
		var seats []event.Seat
		for i := range event.Seat(tt.n) {
			seats = append(seats, tt.first+i*tt.gap)
		}
		b := new(Packer).appendRuns(nil, RunsOf(seats...))
		u := Unpacker{rest: b}
		head := u.uvarint(math.MaxInt32)
		check(t, tt.name+": bitmap", head&1 == 1, tt.bitmap)
		check(t, tt.name+": bytes", int(head>>1), tt.bytes)
		if got := (Seats{body: u.take(head >> 1), bitmap: tt.bitmap}).Append(nil); !slices.Equal(got, seats) {
			t.Errorf("%s: seats %v, want %v", tt.name, got, seats)
		}
	}
	if b := new(Packer).appendRuns(nil, nil); len(b) != 1 {
		t.Errorf("no seats take %d bytes", len(b))
	}
	if got := (Seats{}).Append(nil); len(got) > 0 {
		t.Errorf("no seats became %v", got)
	}
}

// However seats are cut into Runs, they take the same bytes.
func TestRunsAreCutAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seats := drawSeats(t)
		var runs []Run
		for _, s := range seats {
			n := len(runs)
			if n > 0 && s-runs[n-1].First < 64 && !rapid.Bool().Draw(t, "cut") {
				runs[n-1].Mask |= 1 << (s - runs[n-1].First)
			} else {
				runs = append(runs, Run{s, 1})
			}
		}
		got, want := new(Packer).appendRuns(nil, runs), new(Packer).appendRuns(nil, RunsOf(seats...))
		if !slices.Equal(got, want) {
			t.Fatalf("%v takes %x, want %x", runs, got, want)
		}
		if last := runs[len(runs)-1].Last(); last != seats[len(seats)-1] {
			t.Fatalf("Last = %d, want that of %d", last, seats)
		}
	})
}

// Groups may be left in the middle, or not be looked at.
func TestUnpackerSkips(t *testing.T) {
	var u Unpacker
	var seen []int64
	for u.Open(pack(new(Packer), golden)); u.Next(); {
		seen = append(seen, u.Offset)
		for range u.Groups() {
			break
		}
	}
	if want := []int64{1000, 1001, 1200}; u.Err() != nil || !slices.Equal(seen, want) {
		t.Errorf("offsets = %d, %v; want %d", seen, u.Err(), want)
	}
}

// Data must not have room behind it that belongs to the next event.
func TestUnpackerDataIsClosed(t *testing.T) {
	b := pack(new(Packer), golden)
	want := slices.Clone(b)
	var u Unpacker
	for u.Open(b); u.Next(); {
		_ = append(u.Data, "overwritten"...)
	}
	if !slices.Equal(b, want) {
		t.Error("appending to Data changed the entry")
	}
}

func TestUnpackerMalformed(t *testing.T) {
	b := pack(new(Packer), golden)
	for n := range b {
		var u Unpacker
		u.Open(b[:n])
		for u.Next() {
			for range u.Groups() {
			}
		}
		// Cut between two events it is a shorter entry, not a malformed one.
		if whole, _ := unpack(b[:n]); u.Err() == nil && len(whole) == len(golden) {
			t.Errorf("%d of %d bytes are read as a whole entry", n, len(b))
		}
	}
	for _, bad := range [][]byte{nil, {0}, {2, 0, 0}, {entryVersion}, {entryVersion, 1, 0}} {
		if got, err := unpack(bad); err == nil || got != nil {
			t.Errorf("%x: %v, %v; want ErrEntry", bad, got, err)
		}
	}
}

func FuzzUnpacker(f *testing.F) {
	f.Add(pack(new(Packer), golden))
	f.Add(pack(new(Packer), golden[:1]))
	f.Add([]byte{entryVersion, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var u Unpacker
		for u.Open(b); u.Next(); {
			for g, seats := range u.Groups() {
				_ = u.Gateways[g]
				all := seats.Append(nil)
				if !slices.IsSorted(all) || len(all) > 8*len(b) {
					t.Fatalf("%d seats of %d bytes, ascending: %t", len(all), len(b), slices.IsSorted(all))
				}
				for _, seat := range all[:min(len(all), 100)] {
					for _, s := range []event.Seat{seat - 1, seat, seat + 1} {
						if _, want := slices.BinarySearch(all, s); seats.Has(s) != want {
							t.Fatalf("Has(%d): got %t, want %t; all are %v", s, !want, want, all)
						}
					}
				}
			}
			if u.Offset < 0 {
				t.Fatalf("offset %d", u.Offset)
			}
		}
	})
}

// TestUnpackerAllocs: a gateway unpacks every entry; it must not allocate for it.
func TestUnpackerAllocs(t *testing.T) {
	b := pack(new(Packer), golden)
	var u Unpacker
	var seats []event.Seat
	n := testing.AllocsPerRun(100, func() {
		for u.Open(b); u.Next(); {
			for _, s := range u.Groups() {
				seats = s.Append(seats[:0])
			}
		}
	})
	check(t, "allocations", n, 0)
}

func TestPackerAllocs(t *testing.T) {
	var p Packer
	data := []byte(golden[0].data)
	n := testing.AllocsPerRun(100, func() {
		p.Reset()
		for _, e := range golden {
			p.Add(e.offset, e.time, data, e.to)
		}
		p.Bytes()
	})
	check(t, "allocations", n, 0)
}

// benchEvents is a batch as a busy partition has it: 100 events of 300 bytes,
// each for n seats at each of two gateways.
func benchEvents(n int) []packed {
	r := rand.New(rand.NewPCG(1, 2))
	var out []packed
	for i := range int64(100) {
		e := packed{offset: 1_000_000 + i*3, time: 1_700_000_000_000 + i, data: strings.Repeat("x", 300)}
		for g := range event.Gateway(2) {
			seats := make([]event.Seat, n)
			for j := range seats {
				seats[j] = event.Seat(r.Uint32N(10_000))
			}
			slices.Sort(seats)
			e.to = append(e.to, Group{g + 1, RunsOf(slices.Compact(seats)...)})
		}
		out = append(out, e)
	}
	return out
}

func BenchmarkPack(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10_000} {
		b.Run(fmt.Sprintf("events=100/seats=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			events, data := benchEvents(n), []byte(strings.Repeat("x", 300))
			var p Packer
			for b.Loop() {
				p.Reset()
				for i := range events {
					p.Add(events[i].offset, events[i].time, data, events[i].to)
				}
				p.Bytes()
			}
			b.ReportMetric(float64(p.Len()), "bytes/entry")
		})
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10_000} {
		b.Run(fmt.Sprintf("events=100/seats=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			blob := pack(new(Packer), benchEvents(n))
			var u Unpacker
			var seats []event.Seat
			for b.Loop() {
				for u.Open(blob); u.Next(); {
					for _, s := range u.Groups() {
						seats = s.Append(seats[:0])
					}
				}
			}
		})
	}
}
