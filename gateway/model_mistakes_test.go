package gateway

import (
	"testing"
)

// The model test is worth something only if it can fail: each of these mistakes of
// a filter service has to show.
func TestModelFindsMistakes(t *testing.T) {
	for name, wrong := range map[string]mistake{
		"goes on from its own memory after a rollback": ownMemory,
		"reads the control stream before the batch":    controlFirst,
		"does not verify an idle partition":            noVerification,
		"reads presence at once after a doubt":         noGrace,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const patience = 2000
			for seed := uint64(1); seed <= patience; seed++ {
				if m := runModel(t, seed, drawSchedule(seed), wrong, false); m.failure != "" {
					t.Logf("seed %d: %s", seed, m.failure)
					return
				}
			}
			t.Errorf("not found by %d schedules", patience)
		})
	}
}
