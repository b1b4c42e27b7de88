// Package bubble is for tests: testing/synctest, safe with the race detector.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var one struct {
	sync.Mutex
	users int // tests in a bubble now
	procs int // GOMAXPROCS before the first of them
}

// Test is synctest.Test. With the race detector the whole process has one
// processor meanwhile: the runtime of Go 1.26 gives all timers of a bubble one
// context of the race detector, and runs them on several threads at once. That
// mixes up the context's stack of calls, and in the end the process dies of a
// SIGSEGV in the detector.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if Race {
		oneProcessor(+1)
		defer oneProcessor(-1)
	}
	synctest.Test(t, f)
}

func oneProcessor(users int) {
	one.Lock()
	defer one.Unlock()
	if one.users == 0 {
		one.procs = runtime.GOMAXPROCS(1)
	}
	if one.users += users; one.users == 0 {
		runtime.GOMAXPROCS(one.procs)
	}
}
