package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestVerdict(t *testing.T) {
	bad := errors.New("secret host is down")
	worse := Degraded(fmt.Errorf("look after it: %w", bad))
	for _, tt := range []struct {
		name   string
		errs   []error
		status string
		code   int
	}{
		{"all pass", []error{nil, nil}, "ok", 200},
		{"one degraded", []error{nil, worse}, "degraded", 200},
		{"one degraded, within another error", []error{fmt.Errorf("check: %w", worse), nil}, "degraded", 200},
		{"one fails", []error{nil, bad}, "unavailable", 503},
		{"both", []error{bad, worse}, "unavailable", 503},
		{"degraded nothing", []error{Degraded(nil)}, "ok", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var checks []Check
			for i, err := range tt.errs {
				checks = append(checks, Check{Name: fmt.Sprint(i), Do: func(context.Context) error { return err }})
			}
			inside, outside := http.NewServeMux(), http.NewServeMux()
			Handle(inside, prometheus.NewRegistry(), nobodyStuck, checks...)
			HandleStrangers(outside, nobodyStuck, checks...)
			for _, path := range []string{"/readyz", "/health"} {
				for who, mux := range map[string]http.Handler{"inside": inside, "strangers": outside} {
					w := httptest.NewRecorder()
					mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
					var page struct{ Status string }
					if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || page.Status != tt.status || w.Code != tt.code {
						t.Errorf("%s, %s: %d %q, %v; want %d %q", who, path, w.Code, page.Status, err, tt.code, tt.status)
					}
					if told := strings.Contains(w.Body.String(), "secret"); told != (who == "inside" && tt.status != "ok") {
						t.Errorf("%s, %s: the reason is told: %t", who, path, told)
					}
				}
			}
		})
	}
}

func nobodyStuck() error { return nil }
