package event

import (
	"math"
	"time"
)

// The instants that have a TimeKey of their own.
var (
	MinTime = time.Unix(0, math.MinInt64+1).UTC() // in 1677
	MaxTime = time.Unix(0, math.MaxInt64-1).UTC() // in 2262
)

// TimeRange is those instants, for people to read.
var TimeRange = MinTime.Format(time.RFC3339Nano) + " to " + MaxTime.Format(time.RFC3339Nano)

// TimeKey returns a number that is in the order of t, by nanoseconds. Instants
// before MinTime share one key, as do those after MaxTime.
func TimeKey(t time.Time) uint64 {
	switch {
	case t.Before(MinTime):
		return 0
	case t.After(MaxTime):
		return math.MaxUint64
	}
	return uint64(t.UnixNano()) ^ 1<<63
}

// KeyTime is the inverse of TimeKey.
func KeyTime(key uint64) time.Time { return time.Unix(0, int64(key^1<<63)).UTC() }

// ParseTime returns the TimeKey of an RFC 3339 timestamp of 20 to 64 bytes, and
// whether s is one. T and Z are in upper case, and a minute has 60 seconds at most.
// Digits below a nanosecond are dropped.
func ParseTime(s []byte) (key uint64, ok bool) {
	const shortest, longest = len("2006-01-02T15:04:05Z"), 64
	if len(s) < shortest || len(s) > longest || s[4] != '-' || s[7] != '-' || s[10] != 'T' {
		return 0, false
	}
	year, ok1 := digits4(s)
	month, ok2 := digits2(s[5:], 1, 12)
	day, ok3 := digits2(s[8:], 1, 31)
	hour, ok4 := digits2(s[11:], 0, 23)
	minute, ok5 := digits2(s[14:], 0, 59)
	second, ok6 := digits2(s[17:], 0, 59)
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) || s[13] != ':' || s[16] != ':' || day > daysIn(year, month) {
		return 0, false
	}
	nanos, zone := parseFraction(s[19:])
	offset, ok := parseOffset(zone)
	seconds := unixDay(year, month, day)*86400 + int64(hour*3600+minute*60+second-offset)
	return TimeKey(time.Unix(seconds, nanos)), ok
}

// parseFraction returns the nanoseconds of a fraction, if s begins with one, and
// what follows it. Digits below a nanosecond are dropped.
func parseFraction(s []byte) (nanos int64, rest []byte) {
	if len(s) < 2 || s[0] != '.' || s[1]-'0' > 9 {
		return 0, s
	}
	i, unit := 1, int64(1e8)
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		nanos += int64(s[i]-'0') * unit
		unit /= 10
	}
	return nanos, s[i:]
}

// parseOffset returns the seconds that a zone is ahead of UTC.
func parseOffset(s []byte) (seconds int, ok bool) {
	if len(s) == 1 && s[0] == 'Z' {
		return 0, true
	}
	if len(s) != len("+07:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	hours, ok1 := digits2(s[1:], 0, 23)
	minutes, ok2 := digits2(s[4:], 0, 59)
	seconds = hours*3600 + minutes*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, ok1 && ok2
}

// digits2 returns the number of two digits that s begins with, and whether it
// does and the number is within the bounds.
func digits2(s []byte, least, most int) (n int, ok bool) {
	tens, ones := s[0]-'0', s[1]-'0'
	n = int(tens)*10 + int(ones)
	return n, tens <= 9 && ones <= 9 && least <= n && n <= most
}

func digits4(s []byte) (n int, ok bool) {
	high, ok1 := digits2(s, 0, 99)
	low, ok2 := digits2(s[2:], 0, 99)
	return high*100 + low, ok1 && ok2
}

func daysIn(year, month int) int {
	switch {
	case month == 2 && (year%4 != 0 || year%100 == 0 && year%400 != 0):
		return 28
	case month == 2:
		return 29
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// unixDay returns the days from 1970 on to a day. Years are counted from March,
// so that the leap day is the last.
func unixDay(year, month, day int) int64 {
	const before1970 = 719468 // the days from March of the year 0
	if month -= 3; month < 0 {
		month, year = month+12, year-1
	}
	year += 400 // so that no division is of less than 0
	days := year*365 + year/4 - year/100 + year/400 + (month*153+2)/5 + day - 1
	return int64(days - 146097 - before1970)
}
