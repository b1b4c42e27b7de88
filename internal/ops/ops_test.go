package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestPages(t *testing.T) {
	fails := errors.New("redis is down")
	for _, tt := range []struct {
		lanes  error
		stuck  error
		page   string
		status int
		body   string
	}{
		{fails, nil, "/livez", 200, `"ok"`},
		{nil, errors.New("the worker has not moved"), "/livez", 503, `the worker has not moved`},
		{fails, nil, "/readyz", 503, `"lanes":"redis is down"`},
		{fails, nil, "/health", 503, `"always":"ok"`},
		{nil, nil, "/readyz", 200, `"status":"ok"`},
		{fmt.Errorf("now: %w", Degraded(errors.New("3 of 4 go on"))), nil, "/readyz", 200, `"lanes":"now: 3 of 4 go on"},"status":"degraded"`},
		{nil, nil, "/metrics", 200, ""},
	} {
		mux := http.NewServeMux()
		Handle(mux, prometheus.NewRegistry(), func() error { return tt.stuck },
			Check{Name: "always", Do: func(context.Context) error { return nil }},
			Check{Name: "lanes", Do: func(context.Context) error { return tt.lanes }})
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest("GET", tt.page, nil))
		if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.body) {
			t.Errorf("%s with %v: %d %s, want %d with %s", tt.page, tt.lanes, rec.Code, rec.Body, tt.status, tt.body)
		}
	}
}

func TestPagesForStrangers(t *testing.T) {
	down := errors.New("redis at 10.0.0.7 is down")
	mux := http.NewServeMux()
	HandleStrangers(mux, func() error { return nil }, Check{Name: "lanes", Do: func(context.Context) error { return down }, Local: true})
	ask := func(page string) (int, string) {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest("GET", page, nil))
		return rec.Code, strings.TrimSpace(rec.Body.String())
	}
	for _, page := range []string{"/readyz", "/health"} {
		if code, body := ask(page); code != 503 || body != `{"status":"unavailable"}` {
			t.Errorf("%s: %d %s", page, code, body)
		}
	}
	down = nil
	if code, body := ask("/readyz"); code != 200 || body != `{"status":"ok"}` {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := ask("/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
	if code, _ := ask("/metrics"); code != 404 {
		t.Errorf("/metrics: %d", code)
	}
}

func TestCheckExposure(t *testing.T) {
	for _, tt := range []struct {
		addr     string
		insecure bool
		ok       bool
	}{
		{"127.0.0.1:8003", false, true},
		{"127.0.0.2:8003", false, true},
		{"[::1]:8003", false, true},
		{"localhost:8003", false, true},
		{":8003", false, false},
		{"0.0.0.0:8003", false, false},
		{"example.org:8003", false, false},
		{":8003", true, true},
		{"8003", true, false},
	} {
		if err := CheckExposure(tt.addr, tt.insecure); (err == nil) != tt.ok {
			t.Errorf("CheckExposure(%q, %t) = %v, want ok %t", tt.addr, tt.insecure, err, tt.ok)
		}
	}
}

func TestExplainListen(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	_, err = net.Listen("tcp", addr)
	want := addr + " is in use by another process: stop it, or choose another address with --listen"
	if got := fmt.Sprint(ExplainListen(addr, err)); got != want {
		t.Errorf("ExplainListen = %q, want %q", got, want)
	}
}

func TestNewLog(t *testing.T) {
	for _, tt := range []struct{ level, format, want string }{
		{"info", "auto", `"msg":"hello"`}, // a buffer is no terminal
		{"info", "json", `"lane":3,"in":"1.5s"`},
		{"info", "text", "hello lane=3"},
		{"warn", "text", ""},
	} {
		var b bytes.Buffer
		log, err := NewLog(&b, tt.level, tt.format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello", "lane", 3, "in", 1500*time.Millisecond)
		if got := b.String(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("NewLog(%s, %s) wrote %q, want %q", tt.level, tt.format, got, tt.want)
		}
	}
	for _, bad := range [][2]string{{"loud", "json"}, {"info", "xml"}} {
		if _, err := NewLog(&bytes.Buffer{}, bad[0], bad[1]); err == nil {
			t.Errorf("NewLog(%v) works, want an error", bad)
		}
	}
}
