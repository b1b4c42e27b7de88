package testenv

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Growth has work done of a size, and of twice that size, and fails if the larger one
// takes more than 2.5 times as much. work prepares and returns what is measured.
//
// What is measured is the memory allocated, which is the same each time, and the CPU
// time of this process, as much work allocates nothing. Other processes don't count
// as that, and of several tries the cheapest do. Where the larger one falls out of a
// cache it can take more all the same, so then it is looked at larger sizes: what
// takes the square of its size takes four times as much at each of them.
func Growth(t *testing.T, name string, n int, work func(n int) func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		var why string
		for _, n := range []int{n, 2 * n, 4 * n} {
			if why = compare(n, work(n), work(2*n)); why == "" {
				return
			}
		}
		t.Error(why)
	})
}

// GrowthUpTo is Growth where the larger size is the most that there can be.
func GrowthUpTo(t *testing.T, name string, most int, work func(n int) func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		if why := compare(most/2, work(most/2), work(most)); why != "" {
			t.Error(why)
		}
	})
}

// compare says what is wrong with the cost of a size and of twice that size, or "".
func compare(n int, small, large func()) string {
	small() // makes what is made once, and kept
	large()
	if a, b := allocated(small), allocated(large); b > 5*a/2+64<<10 {
		return fmt.Sprintf("size %d allocates %d bytes, and size %d %d", n, a, 2*n, b)
	}
	times := 1
	for cpu(small, times) < 4*time.Millisecond && times < 1<<16 {
		times *= 2
	}
	least := [2]time.Duration{1 << 62, 1 << 62}
	for try := range 40 {
		least[0], least[1] = min(least[0], cpu(small, times)), min(least[1], cpu(large, times))
		if try > 2 && 2*least[1] <= 5*least[0] {
			return ""
		}
	}
	return fmt.Sprintf("size %d takes %v of CPU time, and size %d %v", n, least[0]/time.Duration(times), 2*n, least[1]/time.Duration(times))
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
