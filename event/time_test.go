package event

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"
)

// usual is what RFC 3339 has. time.Parse alone takes more, such as a comma for the point.
var usual = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// slowParseTime is ParseTime in the obvious way.
func slowParseTime(text string) (key uint64, ok bool) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || len(text) > 64 || !usual.MatchString(text) {
		return 0, false
	}
	return TimeKey(t), true
}

func TestParseTime(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Time // zero if it is none
	}{
		{"2026-01-02T03:04:05Z", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{"2026-01-02T03:04:05.6Z", time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)},
		{"2026-01-02T03:04:05.123456789Z", time.Date(2026, 1, 2, 3, 4, 5, 123_456_789, time.UTC)},
		{"2026-01-02T03:04:05.1234567899Z", time.Date(2026, 1, 2, 3, 4, 5, 123_456_789, time.UTC)},
		{"2026-01-02T03:04:05+02:00", time.Date(2026, 1, 2, 1, 4, 5, 0, time.UTC)},
		{"2026-01-02T03:04:05-23:59", time.Date(2026, 1, 3, 3, 3, 5, 0, time.UTC)},
		{"2024-02-29T00:00:00Z", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"2000-02-29T00:00:00Z", time.Date(2000, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"1969-12-31T23:59:59Z", time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"0000-01-01T00:00:00Z", MinTime.Add(-1)},
		{"9999-12-31T23:59:59Z", MaxTime.Add(1)},
		{"2023-02-29T00:00:00Z", time.Time{}},
		{"1900-02-29T00:00:00Z", time.Time{}},
		{"2026-04-31T00:00:00Z", time.Time{}},
		{"2026-13-01T00:00:00Z", time.Time{}},
		{"2026-01-02T24:00:00Z", time.Time{}},
		{"2026-01-02T23:59:60Z", time.Time{}},
		{"2026-01-02T03:04:05.Z", time.Time{}},
		{"2026-01-02t03:04:05z", time.Time{}},
		{"2026-01-02 03:04:05Z", time.Time{}},
		{"2026-01-02T03:04:05", time.Time{}},
		{"2026-01-02T03:04:05+0200", time.Time{}},
		{"2026-01-02T3:04:05Z", time.Time{}},
		{"2026-01-02T3:04:05.5Z", time.Time{}},
		{"2026-01-02T03:04:05,5Z", time.Time{}},
		{"2026-01-02T03:04:05+24:00", time.Time{}},
		{"2026-01-02T03:04:05+02:60", time.Time{}},
		{"", time.Time{}},
	} {
		key, ok := ParseTime([]byte(tt.text))
		if ok != !tt.want.IsZero() || ok && key != TimeKey(tt.want) {
			t.Errorf("ParseTime(%q) = %s, %t, want %s", tt.text, KeyTime(key), ok, tt.want)
		}
	}
}

// Timestamps, and some that are nearly ones.
func TestParseTimeRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 50_000 {
		s := fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d", r.IntN(10_000), r.IntN(14), r.IntN(33), r.IntN(25), r.IntN(61), r.IntN(61))
		switch r.IntN(4) {
		case 0:
			s += fmt.Sprintf(".%0*d", 1+r.IntN(12), r.IntN(1e9))
		case 1:
			s += fmt.Sprintf(",%d", r.IntN(1000))
		}
		if r.IntN(2) == 0 {
			s += "Z"
		} else {
			s += fmt.Sprintf("%c%02d:%02d", "+-"[r.IntN(2)], r.IntN(26), r.IntN(62))
		}
		if r.IntN(4) == 0 { // another byte
			b := []byte(s)
			b[r.IntN(len(b))] = "0123456789-+:.,TZ tz\x00"[r.IntN(21)]
			s = string(b)
		}
		checkParseTime(t, s)
	}
}

func checkParseTime(t *testing.T, s string) {
	t.Helper()
	got, ok := ParseTime([]byte(s))
	if want, wantOK := slowParseTime(s); ok != wantOK || ok && got != want {
		t.Fatalf("ParseTime(%q) = %d, %t, want %d, %t", s, got, ok, want, wantOK)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{
		"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+02:00", "2026-01-02T03:04:05,678-00:00", "2026-01-02T3:04:05.000Z",
		"2026-02-29T23:59:59.1234567890123Z", "2026-01-02T03:04:05+24:00", "0000-12-31T00:00:00-12:30",
	} {
		f.Add(s)
	}
	f.Fuzz(checkParseTime)
}

func TestTimeKey(t *testing.T) {
	times := []time.Time{
		MinTime.Add(-1), MinTime, MinTime.Add(1), time.Unix(0, -1), time.Unix(0, 0), time.Unix(0, 1),
		time.Unix(1_767_323_045, 5), MaxTime.Add(-1), MaxTime, MaxTime.Add(1),
	}
	for i, a := range times {
		if i > 0 && TimeKey(times[i-1]) >= TimeKey(a) {
			t.Errorf("the key of %s is not below that of %s", times[i-1], a)
		}
		if !a.Before(MinTime) && !a.After(MaxTime) && !KeyTime(TimeKey(a)).Equal(a) {
			t.Errorf("KeyTime(TimeKey(%s)) = %s", a, KeyTime(TimeKey(a)))
		}
	}
	for _, tt := range []struct {
		at   time.Time
		want uint64
	}{
		{time.Time{}, 0},
		{MinTime.Add(-1), 0},
		{MaxTime.Add(1), math.MaxUint64},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), math.MaxUint64},
	} {
		if got := TimeKey(tt.at); got != tt.want {
			t.Errorf("TimeKey(%s) = %d, want %d", tt.at, got, tt.want)
		}
	}
}

func BenchmarkParseTime(b *testing.B) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901234+02:00", "an identifier, no time"} {
		b.Run(s, func(b *testing.B) {
			text := []byte(s)
			b.ReportAllocs()
			for b.Loop() {
				ParseTime(text)
			}
		})
	}
}
