package topic

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The offsets that the group commits are only for tools that show the lag: where a partition
// goes on is known elsewhere. So an operator who resets them changes nothing, and is told.
// A member's commit has its member ID as metadata; that of a tool has none. So a commit that
// we made, or another member, is never taken for a reset, however far it is behind.

// lookForResets looks what the group had committed of partitions that are new to us, before
// we commit something ourselves. If it can't, it does so with the next commit.
func (g *group) lookForResets(ctx context.Context, cl *kgo.Client, workers []*worker) error {
	var unseen []*worker
	g.mu.Lock()
	for _, w := range workers {
		if !w.looked && w.p.done.Load() >= 0 {
			unseen = append(unseen, w)
		}
	}
	g.mu.Unlock()
	if len(unseen) == 0 {
		return nil
	}
	committed, err := kadm.NewClient(cl).FetchOffsetsForTopics(ctx, g.cfg.Group, g.cfg.Topic)
	if err != nil {
		return fmt.Errorf("offsets of group %s: %w", g.cfg.Group, err)
	}
	for _, w := range unseen {
		at, ok := committed.Lookup(g.cfg.Topic, w.p.ID)
		if ok && at.Err != nil {
			err = fmt.Errorf("offset of group %s in partition %d: %w", g.cfg.Group, w.p.ID, at.Err)
			continue
		}
		if began := w.p.began.Load(); ok && at.At >= 0 && at.Metadata == "" && at.At != began {
			g.log.Warn("the group's committed offset was reset by a tool, which changes nothing: the position is in Redis. "+
				"\"eventstream lanes skip\" passes over events, and a replay (since) gives those of the past again",
				"group", g.cfg.Group, "partition", w.p.ID, "committed", at.At, "pos", began)
		}
		g.mu.Lock()
		w.looked = true
		g.mu.Unlock()
	}
	return err
}
