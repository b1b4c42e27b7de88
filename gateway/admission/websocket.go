package admission

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
)

// Names of headers in net/http's spelling: in RFC 6455's each look-up would have to
// bring them into that first.
const (
	headerVersion  = "Sec-Websocket-Version"
	headerKey      = "Sec-Websocket-Key"
	headerProtocol = "Sec-Websocket-Protocol"
)

// checkUpgrade checks the opening handshake (RFC 6455 section 4.2.1) and returns
// the client's key.
func checkUpgrade(r *http.Request) (key string, refused *Refusal) {
	upgradeNeeded := func(detail string) *Refusal {
		return &Refusal{
			Status: http.StatusUpgradeRequired, Code: "upgrade_required", Header: "Upgrade", Value: "websocket",
			Detail: detail + "; this is a WebSocket endpoint: try websocat or wscat with ws://…/ws?subscriber_id=<id>",
		}
	}
	switch {
	case r.Method != http.MethodGet:
		return "", &Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Header: "Allow", Value: "GET", Detail: r.Method + " is not allowed; use GET"}
	case !r.ProtoAtLeast(1, 1):
		return "", BadRequest("bad_handshake", "HTTP/1.1 is needed, not %s", r.Proto)
	case !headerHas(r.Header, "Upgrade", "websocket"):
		return "", upgradeNeeded("header Upgrade: websocket is missing")
	case !headerHas(r.Header, "Connection", "upgrade"):
		return "", upgradeNeeded("header Connection: Upgrade is missing")
	case r.Header.Get(headerVersion) != "13":
		return "", &Refusal{
			Status: http.StatusUpgradeRequired, Code: "bad_version", Header: "Sec-WebSocket-Version", Value: "13",
			Detail: fmt.Sprintf("Sec-WebSocket-Version %.20q is not supported; 13 is", r.Header.Get(headerVersion)),
		}
	}
	key = r.Header.Get(headerKey)
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return "", BadRequest("bad_handshake", "Sec-WebSocket-Key: want 16 bytes in base64")
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return "", BadRequest("bad_handshake", "a body is not allowed")
	}
	return key, nil
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
