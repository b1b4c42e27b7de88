package cmd_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// marks are parts of the secrets below. They stand in nothing else.
var marks = []string{"Zq7vXw", "Jk9pTr"}

// addresses are the forms, good and malformed, in which an address with a password
// may be given. A password has both marks.
func addresses(scheme string) []string {
	const pw = "Zq7vXw%40Jk9pTr"
	return []string{
		scheme + "://:" + pw + "@127.0.0.1:1",
		scheme + "://user:" + pw + "@127.0.0.1:1/0?x=1",
		scheme + "://user:" + pw + "@127.0.0.1:x",
		scheme + "://user:Zq7vXw%etJk9pTr@127.0.0.1:1",
		scheme + "://user:Zq7vXw/Jk9pTr@127.0.0.1:1",
		scheme + "://user:Zq7vXw#Jk9pTr@127.0.0.1:1",
		scheme + "://user:Zq7vXw?Jk9pTr@127.0.0.1:1",
		scheme + "://user:Zq7vXw@Jk9pTr@127.0.0.1:1",
		scheme + "://user:Zq7vXw Jk9pTr@127.0.0.1:1",
		scheme + "://user:Zq7vXw\"Jk9pTr@127.0.0.1:1",
		scheme + "://user:" + pw + "@[::1",
		scheme + ":/user:" + pw + "@127.0.0.1:1",
		scheme + ":user:" + pw + "@127.0.0.1:1",
		"user:" + pw + "@127.0.0.1:1",
		":" + pw + "@127.0.0.1:1",
		"nonsense://user:" + pw + "@127.0.0.1:1",
		" " + scheme + "://user:" + pw + "@127.0.0.1:1",
		scheme + "://user:" + pw + "@127.0.0.1:1," + scheme + "://user:" + pw + "@127.0.0.1:2",
	}
}

// Whatever form a secret is given in, to whichever flag or variable, nothing that a
// process prints has it: neither its help, nor why it does not start, nor its log at
// its most talkative while it tries again and again.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	type form struct {
		args []string
		env  []string
	}
	var forms []form
	add := func(command, flag, variable string, values ...string) {
		for i, v := range values {
			if i%4 == 1 { // a variable is a flag's default; it is in the help as well
				forms = append(forms, form{[]string{command}, []string{variable + "=" + v}})
			} else {
				forms = append(forms, form{[]string{command, flag, v}, nil})
			}
		}
	}
	add("gateway", "--redis", "EVENTSTREAM_REDIS", append(addresses("redis"), "rediss:/:Zq7vXw@Jk9pTr@h", "rediss://:Zq7vXwJk9pTr@127.0.0.1:1")...)
	add("filter", "--redis", "EVENTSTREAM_REDIS", "redis://:Zq7vXwJk9pTr@127.0.0.1:1?master_set=x", "redis://127.0.0.1:1?password=Zq7vXwJk9pTr&x=%")
	add("api", "--postgres", "EVENTSTREAM_POSTGRES", append(addresses("postgres"),
		"host=127.0.0.1 port=1 password=Zq7vXwJk9pTr", "host=127.0.0.1 port=x password='Zq7vXw Jk9pTr'", "password=Zq7vXw Jk9pTr host=h", "host=127.0.0.1 password='Zq7vXw",
		"postgres://u@127.0.0.1:1/db?password=Zq7vXwJk9pTr&sslmode=nonsense")...)
	add("filter", "--kafka", "EVENTSTREAM_KAFKA", addresses("kafka")...)
	add("gateway", "--filter-url", "EVENTSTREAM_FILTER_URL", addresses("http")...)
	add("gateway", "--token-jwks", "EVENTSTREAM_TOKEN_JWKS", addresses("https")...)
	add("seed", "--api", "EVENTSTREAM_API", addresses("http")[2:7]...) // with the others it tries for 10 s
	forms = append(forms, form{[]string{"seed", "--api", addresses("http")[1]}, nil})
	add("listen", "--url", "EVENTSTREAM_GATEWAY", append(addresses("ws"), "ws://127.0.0.1:1/ws?token=Zq7vXwJk9pTr", "ws://127.0.0.1:1/ws?token=Zq7vXwJk9pTr%", "127.0.0.1:1/?token=Zq7vXwJk9pTr")...)
	for _, v := range addresses("postgres")[:4] {
		forms = append(forms, form{[]string{"migrate", "--timeout", "0s", "--postgres", v}, nil})
	}
	for _, v := range addresses("http")[:8] {
		forms = append(forms, form{[]string{"healthcheck", v}, nil})
	}
	for _, name := range []string{"EVENTSTREAM_REDIS_PASSWORD", "EVENTSTREAM_TOKEN_SECRET", "EVENTSTREAM_REPLAY_SECRET"} {
		for _, v := range []string{"Zq7vXwJk9pTr", "Zq7vXwJk9pTrZq7vXwJk9pTrZq7vXwJk9pTrZq7vXwJk9pTr", "kid:Zq7vXwJk9pTr,Zq7vXwJk9pTr", "Zq7vXw\xffJk9pTr", "Zq7vXw\nJk9pTr"} {
			forms = append(forms, form{[]string{"gateway"}, []string{name + "=" + v}})
		}
	}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512", "oauthbearer", "none"} {
		forms = append(forms, form{[]string{"filter"}, []string{
			"EVENTSTREAM_KAFKA_SASL=" + mechanism, "EVENTSTREAM_KAFKA_SASL_USER=u", "EVENTSTREAM_KAFKA_SASL_PASSWORD=Zq7vXwJk9pTr",
		}})
	}
	add("filter", "--kafka-sasl-token-url", "EVENTSTREAM_KAFKA_SASL_TOKEN_URL", addresses("https")...)
	queue := make(chan form)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for f := range queue {
				checkSecret(t, f.args, f.env)
				if f.env != nil {
					checkSecret(t, append(f.args, "--help"), f.env)
				}
			}
		})
	}
	for _, f := range forms {
		queue <- f
	}
	close(queue)
	workers.Wait()
}

// checkSecret runs a command until it ends, or has logged that something fails.
func checkSecret(t *testing.T, args, env []string) {
	binary := testenv.Binary(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	given := args
	switch args[0] {
	case "gateway", "filter", "api":
		args = append([]string{args[0], "--listen", "127.0.0.1:0"}, args[1:]...)
	case "listen":
		args = append(args[:len(args):len(args)], "user_1")
	}
	out := &failing{done: cancel}
	c := exec.CommandContext(ctx, binary, append(args, "--log-level", "debug")...)
	c.Env = append(append(os.Environ(), "EVENTSTREAM_REDIS=127.0.0.1:1", "EVENTSTREAM_POSTGRES=postgres://127.0.0.1:1/x", "EVENTSTREAM_KAFKA=127.0.0.1:1"), env...)
	c.Stdout, c.Stderr = out, out
	c.WaitDelay = 10 * time.Second
	if args[0] == "seed" { // it tries for 10 s, and says nothing before
		c.Args = append(c.Args, "--count", "1")
	}
	c.Run()
	text := out.String()
	if text == "" {
		t.Errorf("%q %q printed nothing: this shows nothing", given, env)
	}
	for _, mark := range marks {
		if strings.Contains(text, mark) {
			t.Errorf("%q %q printed a secret:\n%.2000s", given, env, text)
			return
		}
	}
}

// failing is what a process prints, until it has printed two errors.
type failing struct {
	mu   sync.Mutex
	text bytes.Buffer
	done func()
}

func (f *failing) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text.Write(b)
	if bytes.Count(f.text.Bytes(), []byte(`"err":"`)) > 1 {
		f.done()
	}
	return len(b), nil
}

func (f *failing) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

// What clients send in headers and addresses stands in no log and no answer,
// however broken it is.
func TestSentSecretsStaySecret(t *testing.T) {
	t.Parallel()
	f := newFortress(t)
	f.env = append(f.env, "EVENTSTREAM_LOG_LEVEL=debug")
	gateway := f.service("gateway", "--filter-url", "http://"+f.filter)
	api := f.service("api", "--filter-url", "http://"+f.filter, "--rate-limit-address", "0")
	filter := f.service("filter")
	testenv.Eventually(t, 30*time.Second, func() error { return asks(api.addr, f.admin, 200) })
	key := "es_0123456789ab_Zq7vXwJk9pTr-" + strings.Repeat("A", 30)
	token := "eyJhbGciOiJIUzI1NiJ9.Zq7vXwJk9pTr.Zq7vXwJk9pTr"
	for _, secret := range []string{key, token, "Zq7vXwJk9pTr"} {
		for _, lines := range []string{
			"Authorization: Bearer " + secret, "Authorization: Bearer " + secret + "\x00", "Authorization: Bearer " + secret + "\r\n x", "Authorization: Bearer \"" + secret + "\"\x01",
			"Authorization : Bearer " + secret, "Authorization: Bearer " + secret + "\r\nAuthorization: Bearer " + secret, "Authorization\x00: " + secret, "Bearer " + secret,
			"Sec-WebSocket-Protocol: bearer." + secret, "Sec-WebSocket-Protocol: eventstream.v1, bearer." + secret, "Cookie: token=" + secret + "\x7f", "Content-Length: " + secret,
			"Transfer-Encoding: " + secret, "Expect: " + secret, "Idempotency-Key: " + secret, "Last-Event-ID: " + secret, "X: " + secret + "\xff",
		} {
			for _, addr := range []string{gateway.addr, api.addr, filter.addr} {
				for _, target := range []string{"/ws", "/sse", "/replay", "/filters", "/subscribers/user_1/tokens", "/ws?token=" + secret, "/sse?cursor=" + secret + "%", "/filters?subscriber_id=x&key=" + secret, "/%zz?token=" + secret, "/ws?token=" + secret + "\x00"} {
					nc, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					nc.SetDeadline(time.Now().Add(15 * time.Second))
					io.WriteString(nc, "GET "+target+" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"+lines+"\r\n\r\n")
					answer, _ := io.ReadAll(io.LimitReader(nc, 1<<20))
					nc.Close()
					told := strings.ReplaceAll(string(answer), `"instance":"`+target, "") // what it asked for
					if strings.Contains(told, "Zq7vXw") && !strings.Contains(target, "Zq7vXw") {
						t.Errorf("%s %q: %s", target, lines, answer)
					}
				}
			}
		}
	}
	for _, p := range []*process{gateway, api, filter} {
		if text := p.out.String(); strings.Contains(text, "Zq7vXw") {
			i := strings.Index(text, "Zq7vXw")
			t.Errorf("the log has a secret: %s", text[max(0, i-300):min(len(text), i+100)])
		}
	}
}
