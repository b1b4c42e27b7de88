package api_test

import (
	"net"
	"strings"
	"testing"

	"eventstream/api"
	"eventstream/store"
)

// A body where none is wanted is not waited for: it would be for ReadTimeout, and
// the answer be 408.
func TestUnwantedBodies(t *testing.T) {
	s := start(t, api.Config{}, &store.Memory{})
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS"} {
		for _, head := range []string{"Content-Length: 100", "Content-Length: 20000000", "Transfer-Encoding: chunked", "Content-Length: 100\r\nExpect: 100-continue"} {
			path := "/filters?subscriber_id=ada"
			nc := s.send(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n")
			answers := readAll(nc)
			status := "HTTP/1.1 200 "
			if method == "OPTIONS" {
				status = "HTTP/1.1 204 "
			}
			if !strings.HasPrefix(answers, status) || strings.Count(answers, "HTTP/1.1") != 1 || !strings.Contains(answers, "Connection: close") {
				t.Errorf("%s with %s: %q; want one answer %s, and an end", method, head, answers, status)
			}
		}
	}
}

func readAll(nc net.Conn) string {
	var all []byte
	b := make([]byte, 4096)
	for {
		n, err := nc.Read(b)
		if all = append(all, b[:n]...); err != nil {
			return string(all)
		}
	}
}
