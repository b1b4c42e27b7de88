package testenv

import (
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
// as that, and of several tries the cheapest do: what takes the square of its
// size takes four times as much in each of them.
func Growth(t *testing.T, name string, n int, work func(n int) func()) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		small, large := work(n), work(2*n)
		small() // makes what is made once, and kept
		large()
		if a, b := allocated(small), allocated(large); b > 5*a/2+64<<10 {
			t.Errorf("size %d allocates %d bytes, and size %d %d", n, a, 2*n, b)
		}
		times := 1
		for cpu(small, times) < 4*time.Millisecond && times < 1<<16 {
			times *= 2
		}
		least := [2]time.Duration{1 << 62, 1 << 62}
		for try := range 30 {
			least[0], least[1] = min(least[0], cpu(small, times)), min(least[1], cpu(large, times))
			if try > 2 && 2*least[1] <= 5*least[0] {
				return
			}
		}
		t.Errorf("size %d takes %v of CPU time, and size %d %v", n, least[0]/time.Duration(times), 2*n, least[1]/time.Duration(times))
	})
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
