package api_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"eventstream/api"
	"eventstream/event"
	"eventstream/internal/testenv"
)

func TestForgetSubscribers(t *testing.T) {
	now := time.Now()
	old, older, young := ack("old", 1), ack("older", 1), ack("young", 1)
	old.At, older.At, young.At = now.Add(-25*time.Hour), now.Add(-50*time.Hour), now.Add(-time.Hour)
	db := migrated(t, testenv.Postgres(t))
	if err := db.SaveAcks(t.Context(), []event.Ack{old, older, young}); err != nil {
		t.Fatal(err)
	}
	s := start(t, api.Config{}, db)
	for _, tt := range []struct {
		query, want string
		status      int
	}{
		{"acked_before=24h&dry_run=true", `"subscribers":2,"more":false,"dry_run":true}`, 200},
		{"acked_before=24h&dry_run=true&limit=1", `"subscribers":2,"more":false,"dry_run":true}`, 200},
		{"acked_before=" + url.QueryEscape(now.Add(-48*time.Hour).Format(time.RFC3339)) + "&dry_run=true", `"subscribers":1,"more":false,"dry_run":true}`, 200},
		{"acked_before=24h&limit=1", `"subscribers":1,"more":true,"dry_run":false}`, 200},
		{"acked_before=24h&limit=100&dry_run=false", `"subscribers":1,"more":false,"dry_run":false}`, 200},
		{"acked_before=24h", `"subscribers":0,"more":false,"dry_run":false}`, 200},
		{"", `{"field":"?acked_before","detail":"required`, 400},
		{"acked_before=x", `{"field":"?acked_before"`, 400},
		{"acked_before=-1h", `{"field":"?acked_before"`, 400},
		{"acked_before=2999-01-01T00:00:00Z", `is in the future`, 400},
		{"acked_before=24h&limit=0", `want a number from 1 to 100000`, 400},
		{"acked_before=24h&limit=100001", `want a number from 1 to 100000`, 400},
		{"acked_before=24h&dry_run=1", `want true or false`, 400},
		{"acked_before=24h&durable=true", `allowed are acked_before, limit, dry_run`, 400},
	} {
		a := s.do("DELETE", "/subscribers?"+tt.query, "")
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("DELETE /subscribers?%s: %d %s; want %d with %s", tt.query, a.status, a.body, tt.status, tt.want)
		}
	}
	want(t, "who is young", s.do("GET", "/subscribers/young/ack", "").status, 200)
	want(t, "who is old", s.do("GET", "/subscribers/old/ack", "").status, 404)
}
