package gateway

import (
	"context"
	"errors"

	"eventstream/internal/ops"
)

// unready tells why no connection can be taken, or "".
func (g *Gateway) unready() string {
	if g.topics.topic.Load() == nil {
		return "waiting for the filter service"
	}
	if g.gate.moving.Load() {
		return errTopicChanged.Error()
	}
	for _, r := range g.topics.laneReaders() {
		if reason := r.Unready(); reason != "" {
			return reason
		}
	}
	if g.cfg.Tokens != nil && !g.revoked.Known() {
		return "which tokens are revoked is not known yet: the database has not been read"
	}
	if g.presence.Trouble() != nil {
		return storeSilent
	}
	return ""
}

// storeSilent is what clients are told when no seat can be announced. The error itself
// names our servers: it is for operators.
const storeSilent = "the store does not answer"

// Ready tells why no events, or no connections, go through the gateway, or nil.
func (g *Gateway) Ready(context.Context) error {
	if g.gate.reached(phaseLeaving) {
		return errors.New("stopping")
	}
	if reason := g.unready(); reason != "" {
		if err := g.presence.Trouble(); err != nil && reason == storeSilent {
			return err
		}
		return errors.New(reason)
	}
	if err := g.gate.full(); err != nil {
		return err
	}
	if err := g.stuckLanes(); err != nil {
		return err
	}
	for _, r := range g.topics.laneReaders() {
		if err := r.WaitsForKafka(); err != nil {
			return err
		}
	}
	return g.acks.Ready()
}

// stuckLanes tells which partitions nobody looks after. A client may join nevertheless:
// what is produced from then on will come. While some partitions flow, that is nothing
// that another gateway would do better.
func (g *Gateway) stuckLanes() error {
	var first error
	flows := false
	for _, r := range g.topics.laneReaders() {
		reason, all := r.Stuck(g.cfg.stuck)
		flows = flows || !all
		if first == nil && reason != "" {
			first = errors.New(reason)
		}
	}
	if flows {
		return ops.Degraded(first)
	}
	return first
}
