package store_test

import (
	"errors"
	"testing"
	"time"

	"eventstream/auth"
	"eventstream/internal/testenv"
	"eventstream/store"
)

// revoked follows revocations as a gateway does.
type revoked struct {
	auth.Revoked
	mark store.Mark
}

func (r *revoked) follow(t *testing.T, s Store) (n int) {
	t.Helper()
	var err error
	r.mark, err = s.RevocationsSince(t.Context(), r.mark, func(v auth.Revocation) error { n++; r.Add(v); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func revoke(t *testing.T, s Store, r auth.Revocation) {
	t.Helper()
	if err := s.Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestRevocations(t *testing.T) {
	each(t, func(t *testing.T, s Store) {
		now := time.Now().Truncate(time.Millisecond)
		old := auth.Claims{Issued: now.Add(-time.Minute)}.Pass()
		one := auth.Claims{ID: "käthe's one", Issued: now.Add(time.Minute)}.Pass()
		var early revoked
		if n := early.follow(t, s); n != 0 {
			t.Errorf("at first there are %d", n)
		}
		revoke(t, s, auth.Revocation{Subscriber: "ada", At: now, Expires: now.Add(time.Hour)})
		revoke(t, s, auth.Revocation{Subscriber: "ada", At: now.Add(-time.Hour), Expires: now}) // takes nothing back
		early.follow(t, s)
		revoke(t, s, auth.Revocation{TokenID: "käthe's one", At: now, Expires: now.Add(time.Hour)})
		revoke(t, s, auth.Revocation{Subscriber: "eve", At: now, Expires: now.Add(-time.Second)})
		early.follow(t, s)

		late := revoked{mark: "of another database"}
		late.follow(t, s)
		for name, r := range map[string]*revoked{"early": &early, "late": &late} {
			if !r.Has("ada", old) || !r.Has("bob", one) || r.Has("bob", old) || r.Has("eve", old) || r.Len() != 2 {
				t.Errorf("the %s reader has ada %t, the token %t, bob %t, eve %t, %d in all",
					name, r.Has("ada", old), r.Has("bob", one), r.Has("bob", old), r.Has("eve", old), r.Len())
			}
		}
		again := revoked{}
		again.follow(t, s)
		if !again.Has("ada", auth.Claims{Issued: now}.Pass()) {
			t.Error("the time of the revocation has lost its milliseconds")
		}
		stop := errors.New("stop")
		if _, err := s.RevocationsSince(t.Context(), "", func(auth.Revocation) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("an error of each: %v", err)
		}
	})
}

// What a reader has seen it is not told again for ever, and what has expired is
// forgotten.
func TestRevocationsPurged(t *testing.T) {
	dsn := testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	now := time.Now()
	revoke(t, s, auth.Revocation{TokenID: "t1", At: now, Expires: now.Add(time.Hour)})
	revoke(t, s, auth.Revocation{TokenID: "t2", At: now, Expires: now.Add(-time.Hour)})
	var r revoked
	if n := r.follow(t, s); n != 1 {
		t.Errorf("told of %d, want 1", n)
	}
	if n := r.follow(t, s); n != 0 {
		t.Errorf("told again of %d that it knows", n)
	}
	if _, err := s.Purge(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := conn.QueryRow(t.Context(), `select count(*) from revocations`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d are left, %v", left, err)
	}
}
