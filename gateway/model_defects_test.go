//go:build defects

package gateway

import (
	"os"
	"os/exec"
	"testing"

	"eventstream/internal/defect"
)

// The model test catches mistakes of the gateway.
func TestModelCatchesDefects(t *testing.T) {
	for _, name := range []string{defect.NoDedupe, defect.SeatReused} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestModel$", "-model.schedules=2000")
			cmd.Env = append(os.Environ(), "EVENTSTREAM_DEFECT="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("not caught:\n%s", out)
			}
			t.Logf("%.400s", out)
		})
	}
}
