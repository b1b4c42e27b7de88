package event

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestMergeAcks(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	one, two := TopicID{1}, TopicID{2}
	ack := func(topic TopicID, seat Seat, at time.Time, next ...int64) Ack {
		return Ack{"ada", Cursor{Topic: topic, Issued: at, Addr: Address{1, seat}, Old: Address{2, seat}, Next: next}, at}
	}
	dated := func(a Ack, at time.Time) Ack { a.At = at; return a }
	for _, tt := range []struct {
		what       string
		a, b, want Ack
	}{
		{"forward", ack(one, 1, early, 3, 4), ack(one, 2, late, 5, 6), ack(one, 2, late, 5, 6)},
		{"partly back", ack(one, 1, early, 3, 9), ack(one, 2, late, 5, 6), ack(one, 2, late, 5, 9)},
		{"a partition more", ack(one, 1, early, 9), ack(one, 2, late, 5, 6), ack(one, 2, late, 9, 6)},
		{"a partition less", ack(one, 1, early, 3, 9), ack(one, 2, late, 5), ack(one, 2, late, 5, 9)},
		{"of another topic", ack(one, 1, early, 3, 9, 9), ack(two, 2, late, 1, 1), ack(two, 2, late, 1, 1)},
		{"by a clock behind", ack(one, 1, late, 3), ack(one, 2, early, 4), dated(ack(one, 2, early, 4), late)},
	} {
		before := slices.Clone(tt.a.Cursor.Next)
		if got := tt.a.Merge(tt.b); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.what, got, tt.want)
		}
		if !slices.Equal(tt.a.Cursor.Next, before) {
			t.Errorf("%s: Merge changed what it was called on to %v", tt.what, tt.a.Cursor.Next)
		}
	}
}

// The merged one is kept, and its parts go on to be used.
func TestMergedAckSharesNothing(t *testing.T) {
	a, b := Ack{Cursor: Cursor{Next: []int64{1}}}, Ack{Cursor: Cursor{Topic: TopicID{1}, Next: []int64{2}}}
	a.Merge(b).Cursor.Next[0] = 7
	a.Merge(a).Cursor.Next[0] = 7
	if a.Cursor.Next[0] != 1 || b.Cursor.Next[0] != 2 {
		t.Errorf("got %v and %v, want [1] and [2]", a.Cursor.Next, b.Cursor.Next)
	}
}

func TestBehind(t *testing.T) {
	for _, tt := range []struct{ cursor, next, want []int64 }{
		{[]int64{5, 10}, []int64{8, 10}, []int64{3, 0}},
		{[]int64{5, 10}, []int64{4, 11}, []int64{0, 1}}, // acknowledged before a rollback of the lanes
		{[]int64{5}, []int64{5, 7}, []int64{0, 7}},
		{[]int64{5, 6}, []int64{9}, []int64{4}},
		{nil, nil, []int64{}},
	} {
		if got := (&Cursor{Next: tt.cursor}).Behind(tt.next); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v behind %v: got %v, want %v", tt.cursor, tt.next, got, tt.want)
		}
	}
}
