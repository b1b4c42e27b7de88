package api_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"eventstream/api"
	"eventstream/filter"
	"eventstream/store"
)

// contended is a Store in which others are faster so many times.
type contended struct {
	store.Memory
	faster atomic.Int32
	tries  atomic.Int32
}

func (c *contended) Update(ctx context.Context, id filter.ID, s filter.Spec, revision int64) (filter.Filter, error) {
	if c.tries.Add(1); c.faster.Add(-1) >= 0 {
		return filter.Filter{}, filter.ErrConflict
	}
	return c.Memory.Update(ctx, id, s, revision)
}

func TestPatchGivesUp(t *testing.T) {
	db := &contended{}
	s := start(t, api.Config{}, db)
	path, _ := s.create(adas)
	db.faster.Store(5)
	want(t, "a patch beside five others", s.do("PATCH", path, `{"min_amount":7}`).status, 200)
	db.faster.Store(1 << 30)
	db.tries.Store(0)
	a := s.do("PATCH", path, `{"min_amount":8}`)
	if a.status != 503 || !strings.Contains(a.body, "filter-contended") || a.header.Get("Retry-After") == "" {
		t.Errorf("a patch beside others without end: %d %s", a.status, a.body)
	}
	want(t, "tries", db.tries.Load(), int32(10))
	db.tries.Store(0)
	want(t, "a patch of one revision", s.do("PATCH", path, `{"min_amount":8}`, "If-Match", `"2"`).status, 412)
	want(t, "tries of it", db.tries.Load(), int32(1))
	s.wantLogged("level=WARN", 0)
}
