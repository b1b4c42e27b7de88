package pipeline

import "time"

// trimmer knows how far a lane may be trimmed: it remembers how far its partition
// was at some times. It outlives a worker that fails, or a store that is full
// would stay full.
type trimmer struct {
	retention time.Duration
	maxBytes  int64
	marks     []mark // ascending
	bytes     int64  // appended so far
}

// mark says that the offsets below next were appended before at, and how many
// bytes had been appended then.
type mark struct {
	at    time.Time
	next  int64
	bytes int64
}

// settle is how long what is older than the retention may yet be read after its
// partition came to us.
const settle = time.Minute

// begin is called when the lane is found at next. Kafka's records below window
// are older than the retention, whenever they were appended. Nobody else tells
// when that was, so that they may go after a while, and the others when they
// have stood here for the retention.
func (t *trimmer) begin(now time.Time, window, next int64) {
	n := 0
	for n < len(t.marks) && t.marks[n].next <= next {
		n++ // those above have to be appended again
	}
	t.marks = t.marks[:n]
	if n == 0 {
		old := now.Add(min(settle, t.retention/2) - t.retention)
		t.marks = append(t.marks, mark{at: old, next: min(window, next), bytes: t.bytes})
	}
	if t.marks[len(t.marks)-1].next < next {
		t.marks = append(t.marks, mark{at: now, next: next, bytes: t.bytes})
	}
}

// appended notes an append.
func (t *trimmer) appended(bytes int) { t.bytes += int64(bytes) }

// before returns the offset below which the lane may be trimmed: what has stood
// there for the retention, and what exceeds the cap in bytes. next is where the
// lane is.
func (t *trimmer) before(now time.Time, next int64) int64 {
	newest := t.marks[len(t.marks)-1]
	if now.Sub(newest.at) >= min(10*time.Second, t.retention/10) || t.bytes-newest.bytes >= t.maxBytes/16 {
		t.marks = append(t.marks, mark{at: now, next: next, bytes: t.bytes})
	}
	n := 0 // marks that are expired, but for the newest of them
	for n+1 < len(t.marks) && t.expired(t.marks[n+1], now) {
		n++
	}
	t.marks = t.marks[n:]
	if t.expired(t.marks[0], now) {
		return t.marks[0].next
	}
	return 0
}

func (t *trimmer) expired(m mark, now time.Time) bool {
	return now.Sub(m.at) > t.retention || t.bytes-m.bytes > t.maxBytes
}
