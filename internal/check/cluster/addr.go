package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// FreeAddr returns an address that nobody listens on, from below the range that systems use
// for outgoing connections by default. It is given to nobody else for two hours, not by
// another process either: a server that was killed may want it back.
func FreeAddr() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("eventstream-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		given, err := claimPort(filepath.Join(dir, strconv.Itoa(port)))
		if err != nil {
			return "", err
		}
		if !given {
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

// portKept is how long a port is given to nobody else.
const portKept = 2 * time.Hour

// claimPort makes the file that stands for a port, and reports whether nobody has done so of
// late. A link is made by one process only.
func claimPort(file string) (ours bool, err error) {
	if info, err := os.Lstat(file); err == nil && time.Since(info.ModTime()) > portKept {
		os.Remove(file)
	}
	err = os.Symlink("taken", file)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}
