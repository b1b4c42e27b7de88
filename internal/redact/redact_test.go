package redact

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	const key, token = "es_9e77db7c1740_8Cbdcb-secret_x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2VjcmV0c2VjcmV0"
	for _, tt := range []struct{ text, want string }{
		{"dial redis://:secret@h:6379: refused", "dial ***@h:6379: refused"},
		{`{"err":"parse \"redis://:sec%ret@h:x\": invalid"}`, `{"err":"parse \"***@h:x\": invalid"}`},
		{"rediss:/:secret@h", "***@h"},
		{"user:sec@ret@h:9092", "***@h:9092"},
		{"host=h password=secret user=u", "host=h password=*** user=u"},
		{"host=h password='secret secret' user=u", "host=h password=*** user=u"},
		{"GET /ws?token=secret&x=1", "GET /ws?token=***&x=1"},
		{`invalid header value "Bearer ` + key + `\x00"`, `invalid header value "Bearer ***\x00"`},
		{"key " + key + "!", "key es_***!"},
		{"bearer." + token, "bearer.***"},
		{"token " + token, "token ***"},
		{"want the header Authorization: Bearer <key>", "want the header Authorization: Bearer <key>"},
		{`{"time":"2026-01-02T03:04:05Z","msg":"ready","addr":"127.0.0.1:8003"}`, `{"time":"2026-01-02T03:04:05Z","msg":"ready","addr":"127.0.0.1:8003"}`},
	} {
		if got := Text(tt.text); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.text, got, tt.want)
		}
		var b strings.Builder
		if n, err := Writer(&b).Write([]byte(tt.text)); n != len(tt.text) || err != nil || b.String() != tt.want {
			t.Errorf("%s: wrote %d %v %s", tt.text, n, err, b.String())
		}
	}
}

func TestError(t *testing.T) {
	inner := errors.New("refused")
	if got := Error(&url.Error{Op: "Get", URL: "http://h/?token=secret", Err: inner}); got != inner {
		t.Errorf("got %v", got)
	}
	if got := Error(inner); got != inner {
		t.Errorf("got %v", got)
	}
}
