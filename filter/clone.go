package filter

import "slices"

// Clone returns a copy of s that shares no memory with it.
func (s *Spec) Clone() Spec {
	c := *s
	c.EventTypes, c.UserTiers = slices.Clone(s.EventTypes), slices.Clone(s.UserTiers)
	c.UserIDs, c.Countries = slices.Clone(s.UserIDs), slices.Clone(s.Countries)
	c.MinAmount, c.MaxAmount = clonePtr(s.MinAmount), clonePtr(s.MaxAmount)
	c.Where, c.Any, c.ExprAny = s.Where.clone(), cloneAll(s.Any), cloneAll(s.ExprAny)
	return c
}

func cloneAll(list []Where) []Where {
	list = slices.Clone(list)
	for i, w := range list {
		list[i] = w.clone()
	}
	return list
}

func (w Where) clone() Where {
	if w == nil {
		return nil
	}
	c := make(Where, len(w))
	for path, t := range w {
		t.Eq, t.Ne, t.Gt, t.Gte = clonePtr(t.Eq), clonePtr(t.Ne), clonePtr(t.Gt), clonePtr(t.Gte)
		t.Lt, t.Lte, t.Exists = clonePtr(t.Lt), clonePtr(t.Lte), clonePtr(t.Exists)
		t.Prefix, t.Suffix, t.Contains = clonePtr(t.Prefix), clonePtr(t.Suffix), clonePtr(t.Contains)
		t.In, t.NotIn, t.Between = slices.Clone(t.In), slices.Clone(t.NotIn), slices.Clone(t.Between)
		c[path] = t
	}
	return c
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}
