package ops

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"eventstream/internal/redact"
)

// NewLog returns a logger to w: text on a terminal, JSON otherwise, unless format is
// "text" or "json". level is debug, info, warn or error.
func NewLog(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	tty := IsTerminal(w)
	w = redact.Writer(w)
	switch strings.ToLower(format) {
	case "text":
	case "json":
		return newJSON(w, l), nil
	case "", "auto":
		if !tty {
			return newJSON(w, l), nil
		}
	default:
		return nil, fmt.Errorf("log format %q: want auto, text or json", format)
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l, TimeFormat: time.TimeOnly, NoColor: !tty || os.Getenv("NO_COLOR") != ""})), nil
}

// newJSON logs durations as text, "1.5s": a number would have no unit.
func newJSON(w io.Writer, level slog.Level) *slog.Logger {
	readable := func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable}))
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
