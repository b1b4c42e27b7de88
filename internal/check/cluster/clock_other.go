//go:build !linux || !amd64

package cluster

import (
	"errors"
	"time"
)

var errNoSteps = errors.New("that is possible on linux/amd64 only")

// CanStep reports why the clocks of our processes can't be stepped here, or nil.
func CanStep() error { return errNoSteps }

// Step has the process's wall clock be so much ahead, or behind, of what it is to others.
func (p *Process) Step(time.Duration) error { return errNoSteps }
