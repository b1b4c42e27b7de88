package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"eventstream/internal/testenv"
)

// TestUsage: wrong input has its own clear line, and exit code 2.
func TestUsage(t *testing.T) {
	none := t.TempDir()
	t.Setenv("PATH", none)
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, 0, "redis-rollback "},
		{[]string{"surplus"}, 2, "takes no arguments"},
		{[]string{"--nonsense"}, 2, "unknown flag: --nonsense; see --help"},
		{[]string{"--seed", "x"}, 2, "invalid argument"},
		{[]string{"--log-level", "loud"}, 2, "want debug, info, warn or error"},
		{[]string{"--duration", "1s"}, 2, "--duration must be at least 5s"},
		{[]string{"--clients", "0"}, 2, "must be at least 1"},
		{nil, 2, "neither beside eventstream-check nor in PATH"},
		{nil, 2, "`go build -o ./ . ./cmd/eventstream-check` builds both"},
		{[]string{"--eventstream", filepath.Join(none, "x")}, 2, "no such file or directory; `go build"},
		{[]string{"--eventstream", os.Args[0], "--one-process", "--faults", "nonsense"}, 2, `"nonsense"`},
	} {
		var out bytes.Buffer
		if code := execute(t.Context(), tt.args, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%q: exit code %d, printed %q; want %d and %q", tt.args, code, &out, tt.code, tt.says)
		}
	}
}

// TestProgram: the program that is checked is the one that is named, or the one beside
// this program, or the one in PATH.
func TestProgram(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inPath := program(t, t.TempDir())
	t.Setenv("PATH", filepath.Dir(inPath))
	expect := func(named, want string) {
		t.Helper()
		if got, err := (&checkFlags{eventstream: named}).program(); err != nil || got != want {
			t.Errorf("with --eventstream %q: %s, %v; want %s", named, got, err, want)
		}
	}
	expect("", inPath)
	expect("", program(t, filepath.Dir(own)))
	expect("eventstream", inPath)
	named := program(t, t.TempDir())
	expect(named, named)
	t.Chdir(filepath.Dir(named))
	expect("./eventstream", named)
}

// program puts a program eventstream into dir, which it leaves with the test.
func program(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "eventstream")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// TestCheckStops: a check ends soon when it is interrupted, whatever it is doing,
// fails, and leaves nothing behind.
func TestCheckStops(t *testing.T) {
	testenv.Redis(t, testenv.RedisOptions{}) // or skip
	db, err := pgx.Connect(t.Context(), testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(context.WithoutCancel(t.Context())) })
	checker, program := testenv.Checker(t), testenv.Binary(t) // which may take long, before there is a limit
	for _, tt := range []struct {
		name, when string
		signal     os.Signal
	}{
		{"after it began", "seed ", syscall.SIGINT},
		{"after a fault", " kind=", syscall.SIGTERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seed := fmt.Sprint(time.Now().UnixNano())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, checker, "--eventstream", program,
				"--seed", seed, "--duration", "1h", "--clients", "10", "--log-format", "text", "--dir", t.TempDir())
			c.Env = append(os.Environ(), "EVENTSTREAM_KAFKA="+strings.Join(testenv.Kafka(t), ","), "EVENTSTREAM_POSTGRES="+testenv.Postgres(t))
			var stopped time.Time
			out := run(t, c, func(line string) {
				if stopped.IsZero() && strings.Contains(line, tt.when) {
					stopped = time.Now()
					c.Process.Signal(tt.signal)
				}
			})
			if code := c.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(out, "check was stopped") {
				t.Errorf("exit code %d %s after the signal; want 1, and the words that it was stopped:\n%s", code, time.Since(stopped), out)
			}
			var left int
			if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'check\\_' || $1 || '\\_%'", seed).Scan(&left); err != nil || left > 0 {
				t.Errorf("%d databases are left, %v", left, err)
			}
		})
	}
}

// run runs c, passes each line that it prints to see, and returns all of them.
func run(t *testing.T, c *exec.Cmd, see func(line string)) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Stdout, c.Stderr = w, w
	err = c.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		see(lines.Text())
	}
	c.Wait() // the exit code tells
	return all.String()
}
