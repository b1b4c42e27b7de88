package event

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyCursor(t *rapid.T) *Cursor {
	c := &Cursor{
		Issued: time.Unix(rapid.Int64Range(0, maxUnix).Draw(t, "issued"), 0),
		Addr:   anyAddress(t, "addr"),
		Old:    anyAddress(t, "old"),
		Next:   rapid.SliceOfN(rapid.Int64Range(0, maxOffset), 0, 64).Draw(t, "next"),
	}
	copy(c.Topic[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "topic"))
	return c
}

func anyAddress(t *rapid.T, name string) Address {
	return Address{Gateway(rapid.Uint64().Draw(t, name)), Seat(rapid.Uint32().Draw(t, name+" seat"))}
}

func TestCursorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyCursor(t)
		s := want.String()
		got, err := ParseCursor(s)
		if err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if again := string(got.Append([]byte("x"))); again != "x"+s {
			t.Errorf("Append = %s, want x%s", again, s)
		}
		if got, err := ParseCursor(s[:len(s)-1]); err == nil {
			t.Errorf("cut short: got %+v, want an error", got)
		}
	})
}

// Bits that base64url leaves unused are 0: one cursor has one text.
func TestCursorUnusedBits(t *testing.T) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	seen := 0
	for n := range 3 {
		s := (&Cursor{Next: make([]int64, n)}).String()
		for _, last := range letters {
			other := s[:len(s)-1] + string(last)
			raw, _ := base64.RawURLEncoding.DecodeString(other)
			if other == s || base64.RawURLEncoding.EncodeToString(raw) == other {
				continue
			}
			seen++
			if _, err := ParseCursor(other); !errors.Is(err, ErrCursor) {
				t.Errorf("%s: %v, want %v", other, err, ErrCursor)
			}
		}
	}
	if seen < 60 {
		t.Errorf("%d texts with such bits were tried", seen)
	}
}

// The largest cursor that there can be is accepted.
func TestCursorLargest(t *testing.T) {
	want := &Cursor{
		Issued: time.Unix(maxUnix, 0),
		Addr:   Address{math.MaxUint64, math.MaxUint32},
		Old:    Address{math.MaxUint64, math.MaxUint32},
		Next:   slices.Repeat([]int64{maxOffset}, MaxPartitions),
	}
	got, err := ParseCursor(want.String())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want the same", err)
	}
	want.Next = append(want.Next, 0)
	if _, err := ParseCursor(want.String()); !errors.Is(err, ErrCursor) {
		t.Errorf("%d partitions: err = %v, want %v", len(want.Next), err, ErrCursor)
	}
}

func TestParseCursorRefuses(t *testing.T) {
	good := (&Cursor{Issued: time.Unix(1e9, 0), Addr: Address{1, 2}, Next: []int64{300, 2}}).String()
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(b []byte) []byte) string {
		return base64.RawURLEncoding.EncodeToString(f(slices.Clone(raw)))
	}
	next := len(raw) - 4 // two partitions: 300 in two bytes, 2 in one
	for name, s := range map[string]string{
		"empty":          "",
		"not base64":     "not a cursor!",
		"standard":       "+/+/",
		"padded":         good + "=",
		"line break":     good[:4] + "\n" + good[4:],
		"carriage":       good + "\r",
		"too long":       strings.Repeat("A", maxCursor+1),
		"version 0":      edit(func(b []byte) []byte { b[0] = 0; return b }),
		"version 2":      edit(func(b []byte) []byte { b[0] = 2; return b }),
		"more after":     edit(func(b []byte) []byte { return append(b, 0) }),
		"cut":            edit(func(b []byte) []byte { return b[:len(b)-1] }),
		"more claimed":   edit(func(b []byte) []byte { b[next] = 3; return b }),
		"fewer claimed":  edit(func(b []byte) []byte { b[next] = 1; return b }),
		"not shortest":   edit(func(b []byte) []byte { return append(b[:len(b)-1], 0x82, 0x00) }),
		"no offset":      edit(func(b []byte) []byte { return binary.AppendUvarint(b[:len(b)-1], math.MaxInt64) }),
		"year 10000":     (&Cursor{Issued: time.Unix(maxUnix+1, 0)}).String(),
		"offset too big": edit(func(b []byte) []byte { return binary.AppendUvarint(b[:len(b)-1], 1<<63) }),
		"overflow": edit(func(b []byte) []byte {
			return append(b[:len(b)-1], slices.Repeat([]byte{0xff}, 11)...)
		}),
	} {
		if c, err := ParseCursor(s); !errors.Is(err, ErrCursor) {
			t.Errorf("%s: got %+v, %v, want %v", name, c, err, ErrCursor)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("")
	f.Add((&Cursor{}).String())
	f.Add((&Cursor{Issued: time.Unix(1e9, 0), Addr: Address{1, 2}, Old: Address{3, 4}, Next: []int64{5, 1 << 40}}).String())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			if !errors.Is(err, ErrCursor) {
				t.Errorf("%q: err = %v, want %v", s, err, ErrCursor)
			}
			return
		}
		if got := c.String(); got != s {
			t.Errorf("String = %q, want %q", got, s)
		}
	})
}
