package lane

import "testing"

// A lane that is there is claimed also where it would not be begun.
func testClaimNoStart(t *testing.T, s subject) {
	ctx := t.Context()
	check(t, "Claim of no lane", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, -1, -1)), -1)
	check(t, "position", must[[]Position](t)(s.Positions(ctx, Shard{}, 1))[0], Position{Next: -1, First: -1})
	check(t, "Claim", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 7, 7)), 7)
	check(t, "Claim of a lane", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, -1, -1)), 7)
	check(t, "Claim of another topic's lane", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicB, -1, -1)), -1)
	check(t, "Claim of a lane", must[int64](t)(s.Claim(ctx, Shard{}, 0, topicA, 99, 99)), 7)
}

func testLose(t *testing.T, s subject) {
	ctx := t.Context()
	sh := Shard{Index: 1, Of: 2}
	lose := func(what string, l, want Loss) {
		t.Helper()
		if err := s.Lose(ctx, sh, 0, topicA, l); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		check(t, what, must[[]Position](t)(s.Positions(ctx, sh, 1))[0].Lost, want)
	}
	lose("no lane", Loss{5, 9}, Loss{})
	must[int64](t)(s.Claim(ctx, sh, 0, topicB, 10, 10))
	lose("another topic's lane", Loss{5, 9}, Loss{})
	must[int64](t)(s.Claim(ctx, sh, 0, topicA, 10, 10))
	lose("first", Loss{5, 10}, Loss{5, 10})
	lose("the same, when Kafka has grown", Loss{7, 10}, Loss{5, 10})
	lose("more of it", Loss{3, 12}, Loss{3, 12})
	check(t, "Append", must[int64](t)(s.Append(ctx, Append{Shard: sh, Topic: topicA, Expect: 10, Next: 40})), 40)
	check(t, "after Append", must[[]Position](t)(s.Positions(ctx, sh, 1))[0].Lost, Loss{3, 12})
	check(t, "by Require", must[[]Position](t)(s.Require(ctx, sh, 1, ControlID{}))[0].Lost, Loss{3, 12})
	lose("another one", Loss{30, 40}, Loss{30, 40})
	must[int64](t)(s.Claim(ctx, sh, 0, topicB, 10, 10))
	check(t, "a lane begun anew", must[[]Position](t)(s.Positions(ctx, sh, 1))[0].Lost, Loss{})
}
