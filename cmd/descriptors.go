package cmd

import (
	"log/slog"

	"eventstream/internal/ops"
)

// ownDescriptors are reserved for the gateway itself: Redis, PostgreSQL, filter
// services, pages, files.
const ownDescriptors = 64

// divide divides a process's descriptors among connections and those not yet admitted.
// The latter get fewer if need be, but at least one: then clients are answered 503
// instead of not at all. limit is 0 if unknown.
func divide(limit, conns, unadmitted int) (int, int) {
	if limit == 0 {
		return conns, unadmitted
	}
	left := max(limit-ownDescriptors, 2)
	unadmitted = min(unadmitted, max(left-conns, min(left/16, 256), 1))
	return min(conns, left-unadmitted), unadmitted
}

// fitDescriptors calls divide for this process. It logs if fewer connections fit
// than were asked for.
func fitDescriptors(conns, unadmitted int, log *slog.Logger) (int, int) {
	limit := ops.Descriptors()
	fit, unadmitted := divide(limit, conns, unadmitted)
	if fit < conns {
		log.Error("--max-conns can't be kept: this process may not have so many descriptors; raise ulimit -n", "asked", conns, "taken", fit, "descriptors", limit)
	}
	return fit, unadmitted
}

// fitRoom returns how many connections a service may hold besides its
// streams, at most wanted.
func fitRoom(wanted, streams int) int {
	limit := ops.Descriptors()
	if limit == 0 {
		return wanted
	}
	return min(wanted, max(limit-ownDescriptors-streams, 16))
}
