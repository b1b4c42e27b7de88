package auth

import (
	"testing"
	"time"
)

func TestRevoked(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_500)
	later := at.Add(time.Hour)
	var r Revoked
	for _, tt := range []struct {
		name string
		add  Revocation
		news bool
	}{
		{"a subscriber", Revocation{Subscriber: "ada", At: at, Expires: later}, true},
		{"once more", Revocation{Subscriber: "ada", At: at, Expires: later}, false},
		{"from before", Revocation{Subscriber: "ada", At: at.Add(-time.Minute), Expires: at}, false},
		{"a token", Revocation{TokenID: "t1", At: at, Expires: later}, true},
		{"once more", Revocation{TokenID: "t1", At: later, Expires: at}, false},
		{"nothing", Revocation{}, false},
	} {
		if got := r.Add(tt.add); got != tt.news {
			t.Errorf("%s: Add = %t, want %t", tt.name, got, tt.news)
		}
	}
	for _, tt := range []struct {
		name       string
		subscriber string
		claims     Claims
		want       bool
	}{
		{"issued before", "ada", Claims{ID: "x", Issued: at.Add(-time.Second)}, true},
		{"issued at that moment", "ada", Claims{Issued: at}, true},
		{"issued in the second before, to the second", "ada", Claims{Issued: at.Truncate(time.Second)}, true},
		{"issued after", "ada", Claims{Issued: at.Add(time.Millisecond)}, false},
		{"does not say when", "ada", Claims{ID: "x"}, true},
		{"another subscriber", "bob", Claims{ID: "x", Issued: at.Add(-time.Second)}, false},
		{"another subscriber, says nothing", "bob", Claims{}, false},
		{"the token", "bob", Claims{ID: "t1", Issued: later}, true},
		{"the token, of ada", "ada", Claims{ID: "t1", Issued: later}, true},
		{"another token", "bob", Claims{ID: "t2"}, false},
	} {
		if got := r.Has(tt.subscriber, tt.claims.Pass()); got != tt.want {
			t.Errorf("%s: Has = %t, want %t", tt.name, got, tt.want)
		}
	}

	r.Add(Revocation{Subscriber: "eve", At: at, Expires: at})
	r.Forget(later)
	if r.Has("eve", Pass{}) || !r.Has("ada", Pass{}) || !r.Has("", Claims{ID: "t1"}.Pass()) {
		t.Error("Forget drops what has expired, and nothing else")
	}
	if r.Forget(later.Add(time.Second)); r.Len() > 0 {
		t.Errorf("%d are left", r.Len())
	}
}
