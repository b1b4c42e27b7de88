package cluster

import (
	"sync"
	"testing"
)

// TestFreeAddr: no address is given twice, to however many at once.
func TestFreeAddr(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := make(map[string]bool)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				addr, err := FreeAddr()
				mu.Lock()
				if err != nil || seen[addr] {
					t.Errorf("%s, %v: want an address that was not given before", addr, err)
				}
				seen[addr] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
}
