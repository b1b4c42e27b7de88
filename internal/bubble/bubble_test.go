package bubble_test

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"eventstream/internal/bubble"
)

// TestTimers is what ended the process within a second: goroutines that wait
// for timers while others run in functions.
func TestTimers(t *testing.T) {
	bubble.Test(t, func(*testing.T) {
		stop := make(chan struct{})
		for range 8 {
			go func() {
				timer := time.NewTimer(0)
				for {
					select {
					case <-stop:
						return
					case <-timer.C:
						time.AfterFunc(0, func() {})
						timer.Reset(time.Millisecond)
					}
				}
			}()
		}
		time.Sleep(3 * time.Second)
		close(stop)
	})
}

func TestAllUseIt(t *testing.T) {
	files := 0
	err := fs.WalkDir(os.DirFS("../.."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile("../../" + path)
		files++
		if bytes.Contains(text, []byte("synctest."+"Test(")) {
			t.Errorf("%s: use bubble.Test in place of synctest's", path)
		}
		return err
	})
	if err != nil || files < 50 {
		t.Fatalf("%d files, %v", files, err)
	}
}
