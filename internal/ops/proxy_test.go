package ops

import (
	"net/netip"
	"strings"
	"testing"
)

func TestClient(t *testing.T) {
	trusted, err := ParseProxies([]string{"10.0.0.0/8", "192.0.2.1", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		proxies   Proxies
		peer      string
		forwarded []string
		want      string
	}{
		{nil, "198.51.100.7", []string{"203.0.113.9"}, "198.51.100.7"}, // nobody is trusted
		{trusted, "198.51.100.7", []string{"203.0.113.9"}, "198.51.100.7"},
		{trusted, "10.1.2.3", []string{"203.0.113.9"}, "203.0.113.9"},
		{trusted, "10.1.2.3", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"}, // what the client wrote itself
		{trusted, "10.1.2.3", []string{"1.1.1.1", "203.0.113.9, 192.0.2.1"}, "203.0.113.9"},
		{trusted, "10.1.2.3", nil, "10.1.2.3"},
		{trusted, "10.1.2.3", []string{"unknown"}, "10.1.2.3"},
		{trusted, "10.1.2.3", []string{"10.9.9.9"}, "10.9.9.9"},
		{trusted, "::ffff:10.1.2.3", []string{"203.0.113.9"}, "203.0.113.9"},
		{trusted, "fd00::1", []string{"2001:db8::5"}, "2001:db8::5"},
		{trusted, "10.1.2.3", []string{strings.Repeat("10.1.1.1,", 1000) + "10.1.1.1"}, "10.1.1.1"},
	} {
		if got := tt.proxies.Client(netip.MustParseAddr(tt.peer), tt.forwarded); got.String() != tt.want {
			t.Errorf("%s with %.60q: %s, want %s", tt.peer, tt.forwarded, got, tt.want)
		}
	}
	for _, bad := range []string{"", "10.0.0.0/40", "proxy.example.org", "fe80::1%eth0"} {
		if _, err := ParseProxies([]string{bad}); err == nil {
			t.Errorf("%q is taken for a proxy", bad)
		}
	}
	if got := Household(netip.MustParseAddr("2001:db8::5")); got != "2001:db8::/64" {
		t.Errorf("household %s", got)
	}
}
