//go:build defects

package defect

import (
	"fmt"
	"os"
	"slices"
)

var chosen = os.Getenv("EVENTSTREAM_DEFECT")

func init() {
	if chosen != "" && !slices.Contains(Names(), chosen) {
		fmt.Fprintf(os.Stderr, "EVENTSTREAM_DEFECT=%q: allowed are %q\n", chosen, Names())
		os.Exit(2)
	}
}

// On reports whether the defect is switched on.
func On(name string) bool { return name == chosen }
