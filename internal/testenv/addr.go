package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// freeAddr picks from below the range that systems use for outgoing connections
// by default. A port that the system picks would come from inside it, and could
// be gone when a killed server wants it back.
func freeAddr() (string, error) {
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("no free port")
}
