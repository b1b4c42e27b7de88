//go:build unix

package ops

import (
	"math"
	"syscall"
)

// Descriptors returns how many files and sockets this process may open, or 0 if unknown.
func Descriptors() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(uint64(l.Cur), math.MaxInt32))
}
