package topic

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Compaction removes records that have a younger one with the same key, from anywhere in a
// partition but its newest part. Their offsets stay unused, and nothing tells what they were:
// events, records of transactions that were aborted, or marks. A replay tells them as a gap.

// noteCompaction takes up the topic's cleanup.policy.
func (c *Consumer) noteCompaction(policy string) {
	compacts := strings.Contains(policy, "compact")
	if c.compacts.Swap(compacts) == compacts || !compacts {
		return
	}
	c.log.Warn("the topic is compacted: Kafka removes events that have a younger one with the same key. Live events all come, but those that were removed "+
		"are missing when somebody replays events, or lanes are filled again; replays tell them as a gap", "topic", c.cfg.Topic, "cleanup.policy", policy)
}

// Holes is a range of offsets, To not included: from the first to the last that is unused.
type Holes struct{ From, To int64 }

// holes returns those of what a broker answered, from an offset up to next. What is left of
// transactions that were aborted is there, though nobody is given it.
func (p *past) holes(resp *kmsg.FetchResponseTopicPartition, decompressor kgo.Decompressor, from, next int64) (h Holes) {
	fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadUncommitted(), KeepControlRecords: true,
	}, resp, decompressor, nil)
	add := func(begin, end int64) {
		if begin >= end {
			return
		}
		if h.To == 0 {
			h.From = begin
		}
		h.To = end
	}
	for _, r := range fp.Records {
		add(from, min(r.Offset, next))
		from = r.Offset + 1
	}
	add(from, next)
	return h
}
