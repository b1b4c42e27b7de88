package index

import (
	"cmp"

	"eventstream/internal/cow"
)

// Options are the sizes at which an Index changes how it keeps or finds something. They
// change what it costs and never what it finds. A field that is 0 has its default, which is
// the best one measured; tests choose small ones to reach every form with few filters.
type Options struct {
	NodeEntries   int // conjunctions that a node tries one after the other; 32 if zero
	NodeChildren  int // ways on from a node that are kept in one list; 64 if zero
	BucketKeys    int // keys in a bucket of a hash trie; 32 if zero
	LeafEntries   int // entries in a leaf of an interval tree, at least 2; 64 if zero
	BranchKids    int // kids of a branch of an interval tree, at least 4; 64 if zero
	PostingSlots  int // Slots of a posting that are kept in one list; 2,048 if zero
	DirectInserts int // entries that go into trees one by one before the others wait for the next Snapshot; 64 if zero
	LoadInserts   int // entries that wait for one tree and are worth a goroutine; 1,024 if zero

	DenseMatches int // Slots found from which on a Matcher reads all bits, in the smallest index; 256 if zero
	DigestBytes  int // size of an attribute from which on it may be digested; 512 if zero
	DigestTries  int // the test of an attribute that digests it; 64 if zero, which take as long as to digest it
}

func (o Options) withDefaults() Options {
	return Options{
		NodeEntries:   cmp.Or(o.NodeEntries, 32),
		NodeChildren:  cmp.Or(o.NodeChildren, 64),
		BucketKeys:    cmp.Or(o.BucketKeys, 32),
		LeafEntries:   max(2, cmp.Or(o.LeafEntries, 64)),
		BranchKids:    max(4, cmp.Or(o.BranchKids, 64)),
		PostingSlots:  cmp.Or(o.PostingSlots, 2048),
		DirectInserts: cmp.Or(o.DirectInserts, 64),
		LoadInserts:   cmp.Or(o.LoadInserts, 1024),
		DenseMatches:  cmp.Or(o.DenseMatches, 256),
		DigestBytes:   cmp.Or(o.DigestBytes, 512),
		DigestTries:   cmp.Or(o.DigestTries, 64),
	}
}

// writer is what a change to an Index works with: the generation of the parts that it may
// change in place, and the sizes by which they are split and joined.
type writer struct {
	gen   cow.Gen
	sizes *Options // never changed; shared with Snapshots
}
