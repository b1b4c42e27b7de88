//go:build defects

package gateway

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"eventstream/internal/defect"
)

// The model test catches mistakes of the gateway.
func TestModelCatchesDefects(t *testing.T) {
	dir := t.TempDir()
	overlay, err := defect.Overlay("..", dir)
	if err != nil {
		t.Fatal(err)
	}
	mistaken := filepath.Join(dir, "gateway.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", mistaken, ".").CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	for _, name := range []string{defect.NoDedupe, defect.SeatReused} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), mistaken, "-test.run=^TestModel$", "-model.schedules=2000")
			cmd.Env = append(os.Environ(), "EVENTSTREAM_DEFECT="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("not caught:\n%s", out)
			}
			t.Logf("%.400s", out)
		})
	}
}
