package client

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"eventstream/wire"
)

// A token that ends is followed by the next one; one that is refused is not.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shown := make(chan string, 8)
		showing := func(next http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				shown <- r.Header.Get("Authorization")
				next(w, r)
			}
		}
		g := newGateway(t,
			showing(script(t, func(s *seat) { s.hello("", false); s.close(wire.CloseExpired, "the token has expired") })),
			showing(refuse(401, "", "no")))
		asked := 0
		f := follow(g, Config{Header: http.Header{"X-Other": {"1"}}, Token: func(context.Context) (string, error) {
			if asked++; asked == 2 {
				return "", errors.New("the issuer is down") // tried again
			}
			return strconv.Itoa(asked), nil
		}})
		time.Sleep(time.Minute)
		select {
		case err := <-f.done:
			if refused, ok := errors.AsType[*HandshakeError](err); !ok || refused.Status != 401 {
				t.Errorf("Run = %v, want a 401", err)
			}
		default:
			t.Fatal("Run goes on")
		}
		wantEqual(t, "tokens", []string{<-shown, <-shown}, []string{"Bearer 1", "Bearer 3"})
	})
}
