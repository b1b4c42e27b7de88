//go:build linux

package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Profile writes one of the process's profiles to a file: cpu, over d, which is at
// least a second, or another kind that net/http/pprof has, as it is now.
func (p Part) Profile(ctx context.Context, kind string, d time.Duration, file string) error {
	url := "http://" + p.Admin + "/debug/pprof/" + kind
	if kind == "cpu" {
		url = fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", p.Admin, max(d.Seconds(), 1))
	}
	if err := fetch(ctx, url, file); err != nil {
		return fmt.Errorf("%s profile of %s: %w", kind, p.Name, err)
	}
	return nil
}

func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, resp.Body)
	return err
}
