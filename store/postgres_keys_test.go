package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"eventstream/auth"
	"eventstream/internal/testenv"
	"eventstream/store"
)

func TestAPIKeys(t *testing.T) {
	ctx, dsn := t.Context(), testenv.Postgres(t)
	s, conn := postgres(t, dsn), connect(t, dsn)
	if keys, err := s.APIKeys(ctx); err != nil || len(keys) != 0 {
		t.Fatalf("at first: %v, %v", keys, err)
	}
	made, text, err := auth.NewAPIKey("ci", auth.ScopeWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateAPIKey(ctx, made); err != nil {
		t.Fatal(err)
	}
	keys, err := s.APIKeys(ctx)
	if err != nil || len(keys) != 1 {
		t.Fatalf("APIKeys = %v, %v", keys, err)
	}
	got := keys[0]
	if !got.Created.Equal(made.Created) || !got.Is(text) || got.ID != made.ID || got.Name != "ci" || got.Scope != auth.ScopeWrite || !got.Revoked.IsZero() {
		t.Errorf("got %+v, want %+v", got, made)
	}
	var row string
	if err := conn.QueryRow(ctx, `select api_keys::text from api_keys`).Scan(&row); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(row, text[len(text)-20:]) {
		t.Errorf("the key itself is stored: %s", row)
	}

	for range 2 { // the second one changes nothing
		if err := s.RevokeAPIKey(ctx, made.ID); err != nil {
			t.Fatal(err)
		}
		keys, err := s.APIKeys(ctx)
		if err != nil || len(keys) != 1 || time.Since(keys[0].Revoked) > time.Minute {
			t.Fatalf("after revoking: %+v, %v", keys, err)
		}
	}
	if err := s.RevokeAPIKey(ctx, "000000000000"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoking what is not there: %v", err)
	}
	if err := s.CreateAPIKey(ctx, made); err == nil {
		t.Error("a key is created twice")
	}
}
