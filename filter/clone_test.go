package filter_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"eventstream/filter/filtertest"
)

func TestCloneSharesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	for range 500 {
		s := filtertest.Spec(rng)
		c := s.Clone()
		if !reflect.DeepEqual(c, s) {
			t.Fatalf("Clone = %+v, want %+v", c, s)
		}
		checkApart(t, "", reflect.ValueOf(s), reflect.ValueOf(c))
	}
}

// checkApart fails if a and b, which are equal, share a pointer, a slice or a map.
func checkApart(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if !a.IsNil() && a.Pointer() == b.Pointer() && (a.Kind() != reflect.Slice || a.Len() > 0) {
			t.Errorf("%s is shared", path)
		}
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			checkApart(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice:
		for i := range a.Len() {
			checkApart(t, path+"[]", a.Index(i), b.Index(i))
		}
	case reflect.Map:
		for _, k := range a.MapKeys() {
			checkApart(t, path+"["+k.String()+"]", a.MapIndex(k), b.MapIndex(k))
		}
	}
}
