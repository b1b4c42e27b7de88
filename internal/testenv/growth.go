package testenv

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Growth has work done of growing sizes up to 2n, and fails if it grows faster than
// they do. work prepares work of a size and returns what is measured.
//
// The memory allocated, which is the same each time, may be at most 2.5 times as much
// for twice the size. Much work allocates nothing, so the CPU time of this process
// counts, too. Caches and other processes make it uncertain, so it is compared over
// eight times the size: 32 times as much is allowed, where what grows with the square
// takes 64 times as much. What takes no time worth speaking of at its largest is not
// compared.
func Growth(t *testing.T, name string, n int, work func(n int) func()) {
	t.Helper()
	GrowthUpTo(t, name, 2*n, work)
}

// GrowthUpTo is Growth where the larger size is the most that there can be.
func GrowthUpTo(t *testing.T, name string, most int, work func(n int) func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		skipRace(t)
		if most < 8 {
			t.Fatalf("size %d is too small to compare with an eighth of it", most)
		}
		if why := compare(most, work(most/8), work(most/2), work(most)); why != "" {
			t.Error(why)
		}
	})
}

// skipRace leaves it to a run without the race detector, as make test has one: what
// that does costs ten times as much as the work, and is not what is measured.
func skipRace(t *testing.T) {
	if Race {
		t.Skip("measured without the race detector")
	}
}

// compare says what is wrong with the cost of a size, its half, and its eighth, or "".
func compare(size int, eighth, half, whole func()) string {
	half() // makes what is made once, and kept
	whole()
	if a, b := allocated(half), allocated(whole); b > 5*a/2+64<<10 {
		return fmt.Sprintf("size %d allocates %d bytes, and size %d %d", size/2, a, size, b)
	}
	times := 1
	for cpu(eighth, times) < 2*time.Millisecond && times < 1<<16 {
		times *= 2
	}
	const never = 1 << 62
	least := [2]time.Duration{never, never}
	for range 20 {
		least[0], least[1] = min(least[0], cpu(eighth, times)), min(least[1], cpu(whole, 1)*time.Duration(times))
		if least[1] <= 32*least[0] || least[1] < time.Duration(times)*100*time.Microsecond {
			return ""
		}
	}
	return fmt.Sprintf("size %d takes %v of CPU time, and size %d %v", size/8, least[0]/time.Duration(times), size, least[1]/time.Duration(times))
}

func allocated(work func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func cpu(work func(), times int) time.Duration {
	before := usage()
	for range times {
		work()
	}
	return usage() - before
}

func usage() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // RUSAGE_SELF is known everywhere
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
