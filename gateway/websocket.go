package gateway

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"eventstream/gateway/framing"
)

// serveWS upgrades a request to a WebSocket, or says why not.
func (g *Gateway) serveWS(w http.ResponseWriter, r *http.Request) {
	if refused := g.upgrade(w, r); refused != nil {
		g.metrics.refused.WithLabelValues(strconv.Itoa(refused.status)).Inc()
		refused.write(w)
	}
}

// upgrade does everything that can fail with a clear answer before it hijacks
// the connection: a client that is upgraded is announced already.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request) *refusal {
	key, refused := checkUpgrade(r)
	if refused != nil {
		return refused
	}
	if refused := g.checkOrigin(r); refused != nil {
		return refused
	}
	how, extensions := framing.WebSocket, ""
	if g.cfg.Compress {
		if extensions = framing.AcceptDeflate(r.Header); extensions != "" {
			how = framing.Deflated
		}
	}
	q, refused := parseQuery(r, params)
	if refused != nil {
		return refused
	}
	return g.enter(w, r, q, how, func(d door) []byte { return switching(key, d.protocol, extensions) })
}

// Names of headers in net/http's spelling: in RFC 6455's each look-up would have to
// bring them into that first.
const (
	headerVersion  = "Sec-Websocket-Version"
	headerKey      = "Sec-Websocket-Key"
	headerProtocol = "Sec-Websocket-Protocol"
)

// checkUpgrade checks the opening handshake (RFC 6455 section 4.2.1) and returns
// the client's key.
func checkUpgrade(r *http.Request) (key string, refused *refusal) {
	upgradeNeeded := func(detail string) *refusal {
		return &refusal{
			status: http.StatusUpgradeRequired, code: "upgrade_required", header: "Upgrade", value: "websocket",
			detail: detail + "; this is a WebSocket endpoint: try websocat or wscat with ws://…/ws?subscriber_id=<id>",
		}
	}
	switch {
	case r.Method != http.MethodGet:
		return "", &refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", header: "Allow", value: "GET", detail: r.Method + " is not allowed; use GET"}
	case !r.ProtoAtLeast(1, 1):
		return "", badRequest("bad_handshake", "HTTP/1.1 is needed, not %s", r.Proto)
	case !headerHas(r.Header, "Upgrade", "websocket"):
		return "", upgradeNeeded("header Upgrade: websocket is missing")
	case !headerHas(r.Header, "Connection", "upgrade"):
		return "", upgradeNeeded("header Connection: Upgrade is missing")
	case r.Header.Get(headerVersion) != "13":
		return "", &refusal{
			status: http.StatusUpgradeRequired, code: "bad_version", header: "Sec-WebSocket-Version", value: "13",
			detail: fmt.Sprintf("Sec-WebSocket-Version %.20q is not supported; 13 is", r.Header.Get(headerVersion)),
		}
	}
	key = r.Header.Get(headerKey)
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return "", badRequest("bad_handshake", "Sec-WebSocket-Key: want 16 bytes in base64")
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return "", badRequest("bad_handshake", "a body is not allowed")
	}
	return key, nil
}

// headerHas reports whether a comma-separated header has the token, in any case.
func headerHas(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for v := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(v), token) {
				return true
			}
		}
	}
	return false
}

// switching is the answer to a good handshake. protocol and extensions may be empty.
func switching(key, protocol, extensions string) []byte {
	if protocol != "" {
		protocol = "\r\nSec-WebSocket-Protocol: " + protocol
	}
	if extensions != "" {
		extensions = "\r\nSec-WebSocket-Extensions: " + extensions
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + protocol + extensions + "\r\n\r\n")
}
