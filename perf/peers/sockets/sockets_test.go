package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestSend checks that each gets what is for it and what is for all, and no more.
func TestSend(t *testing.T) {
	for _, kind := range []string{"gws", "coder"} {
		t.Run(kind, func(t *testing.T) {
			s, err := open(kind, "", all)
			if err != nil {
				t.Fatal(err)
			}
			web := httptest.NewServer(s)
			defer web.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			a, b := connect(t, ctx, web.URL, "a"), connect(t, ctx, web.URL, "b")
			s.send("a", []byte("for a"))
			s.send("nobody", []byte("for nobody"))
			s.send("", []byte("for all"))
			for c, want := range map[*websocket.Conn]string{a: "for a, for all", b: "for all"} {
				var got []string
				for range strings.Split(want, ", ") {
					_, m, err := c.Read(ctx)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(m))
				}
				if strings.Join(got, ", ") != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// connect returns when hello has come: then the subscriber is known.
func connect(t *testing.T, ctx context.Context, url, subscriber string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(ctx, url+"/ws?subscriber_id="+subscriber, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	if _, m, err := c.Read(ctx); err != nil || string(m) != hello {
		t.Fatalf("first message %q, %v; want %s", m, err, hello)
	}
	return c
}

func TestOpen(t *testing.T) {
	if _, err := open("other", "", all); err == nil || !strings.Contains(err.Error(), "there are gws, coder, centrifuge") {
		t.Errorf("open(other) = %v", err)
	}
}
