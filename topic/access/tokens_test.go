package access

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"

	"eventstream/internal/bubble"
	"eventstream/internal/testenv"
)

// first returns what a mechanism sends first.
func first(t *testing.T, m sasl.Mechanism) (string, error) {
	t.Helper()
	_, msg, err := m.Authenticate(t.Context(), "b-1.demo.c2.kafka.eu-west-1.amazonaws.com:9098")
	return string(msg), err
}

// A token is asked for with the client's credentials, used for a while, and its file is
// read each time.
func TestOAuthBearer(t *testing.T) {
	t.Parallel()
	asked, fails := 0, false
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		id, secret, _ := r.BasicAuth()
		if fails || id != "client" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka more" {
			http.Error(w, `{"error":"invalid_client","error_description":"who are you?"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token%d","token_type":"bearer","expires_in":300}`, asked)
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	cfg := Config{
		Mechanism: OAuthBearer, User: "client", Password: "s3cret",
		OAuth: OAuth{TokenURL: server.URL, CA: ca, Scopes: []string{"kafka", "more"}, Extensions: map[string]string{"logicalCluster": "lkc-1"}},
	}
	open := func() sasl.Mechanism {
		a, _, err := Open(cfg, testenv.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		return a.SASL
	}
	m := open()
	for range 2 {
		if msg, err := first(t, m); err != nil || msg != "n,,\x01auth=Bearer token1\x01logicalCluster=lkc-1\x01\x01" {
			t.Errorf("got %q, %v", msg, err)
		}
	}
	fails = true
	if msg, err := first(t, open()); err == nil || !strings.Contains(err.Error(), "who are you?") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %q, %v, want what the endpoint says", msg, err)
	}
	cfg.OAuth.CA, fails = "", false
	if _, err := first(t, open()); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("got %v, want that the endpoint is not trusted", err)
	}

	cfg.User, cfg.Password, cfg.OAuth = "", "", OAuth{TokenFile: filepath.Join(t.TempDir(), "token")}
	m = open()
	if _, err := first(t, m); err == nil {
		t.Error("a missing file is taken")
	}
	for _, token := range []string{"one", "two"} {
		write(t, cfg.OAuth.TokenFile, token+"\n")
		if msg, err := first(t, m); err != nil || msg != "n,,\x01auth=Bearer "+token+"\x01\x01" {
			t.Errorf("got %q, %v, want %s", msg, err, token)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What has an end is asked for before it comes, and used until it comes.
func TestRenewed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		began, asked, fails := time.Now(), 0, false
		r := newRenewed(func(context.Context) (int, time.Duration, error) {
			if asked++; fails {
				return 0, 0, errors.New("away")
			}
			return asked, 100 * time.Second, nil
		}, "it", testenv.Log(t))
		for _, tt := range []struct {
			at    time.Duration // seconds
			fails bool
			want  int // 0 for an error
		}{{0, false, 1}, {79, false, 1}, {81, false, 2}, {160, true, 2}, {162, true, 2}, {180, true, 2}, {182, true, 0}, {183, false, 6}, {262, true, 6}} {
			time.Sleep(tt.at*time.Second - time.Since(began))
			fails = tt.fails
			if got, err := r.get(t.Context()); got != tt.want || (err == nil) != (tt.want > 0) {
				t.Errorf("after %d s: got %d, %v, want %d", tt.at, got, err, tt.want)
			}
		}
	})
}

// AWS's credentials come from where AWS's tools have them, and are looked for anew.
func TestAWS(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	profiles := filepath.Join(dir, "credentials")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", profiles)
	t.Setenv("AWS_REGION", "eu-west-1")
	credential := func(want string) {
		t.Helper()
		msg, err := first(t, awsIAM(testenv.Log(t)))
		var got map[string]string
		if err == nil {
			err = json.Unmarshal([]byte(msg), &got)
		}
		if key, _, _ := strings.Cut(got["x-amz-credential"], "/"); key != want || (err == nil) != (want != "") {
			t.Errorf("got %q, %v, want %q", msg, err, want)
		}
	}
	credential("")
	write(t, profiles, "[default]\naws_access_key_id = FIRST\naws_secret_access_key = x\n")
	credential("FIRST")
	write(t, profiles, "[default]\naws_access_key_id = SECOND\naws_secret_access_key = x\n[other]\naws_access_key_id = OTHER\naws_secret_access_key = x\n")
	credential("SECOND")
	t.Setenv("AWS_PROFILE", "other")
	credential("OTHER")
	t.Setenv("AWS_PROFILE", "")

	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "identity" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
			<AccessKeyId>ASSUMED</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>y</SessionToken><Expiration>%s</Expiration>
			</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	token := filepath.Join(dir, "identity")
	write(t, token, "identity")
	write(t, profiles, "")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	credential("ASSUMED")
	t.Setenv("AWS_ACCESS_KEY_ID", "ENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	credential("ENVIRONMENT")
}
