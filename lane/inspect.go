package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Inspection is what the servers say of themselves.
type Inspection struct {
	Troubles []error       // what an operator has to look after
	Ahead    time.Duration // of the server's clock before ours; of several, the one that is furthest off
}

// ErrEviction reports a Redis that may throw away lanes and positions when its
// memory is full, which would lose events without a word.
var ErrEviction = errors.New("redis maxmemory-policy is not noeviction")

// Others that an Inspection finds.
var (
	errOldRedis = errors.New("redis is too old: 6.2 or later is needed")
	errMemory   = errors.New("redis memory is nearly full: appends will be refused, and events wait in Kafka")
	errNoDisk   = errors.New("redis can't write to its disk: a restart would lose what it holds")
)

// fullAt is the part of its memory, in percent, from which a Redis is nearly full.
const fullAt = 90

// CheckConfig asks each node for its settings and state. A node of which one can't be
// asked is an error; what was found of the others comes beside it.
func (r *Redis) CheckConfig(ctx context.Context) (in Inspection, err error) {
	c, err := r.open(ctx)
	if err != nil {
		return in, fmt.Errorf("redis info: %w", err)
	}
	var down error
	for addr, node := range c.Nodes() {
		troubles, ahead, err := inspect(ctx, node)
		for _, t := range troubles {
			in.Troubles = append(in.Troubles, fmt.Errorf("%s: %w", addr, t))
		}
		if ahead.Abs() > in.Ahead.Abs() {
			in.Ahead = ahead
		}
		down = cmp.Or(down, err)
	}
	return in, down
}

func inspect(ctx context.Context, node rueidis.Client) (troubles []error, ahead time.Duration, err error) {
	info, err := node.Do(ctx, node.B().Info().Build()).ToString()
	if err != nil {
		return nil, 0, fmt.Errorf("redis info: %w", err)
	}
	began := time.Now()
	clock, err := node.Do(ctx, node.B().Time().Build()).AsIntSlice()
	took := time.Since(began)
	if err == nil && len(clock) != 2 {
		err = fmt.Errorf("answer %v", clock)
	}
	if err != nil {
		return judge(parseInfo(info)), 0, fmt.Errorf("redis time: %w", err)
	}
	// It was read somewhere between: to be sure, the difference is taken for no larger than it must be.
	return judge(parseInfo(info)), beyond(time.Unix(clock[0], clock[1]*1000).Sub(began), took), nil
}

// beyond returns by how much a time lies before 0 or after took.
func beyond(at, took time.Duration) time.Duration {
	if at < 0 {
		return at
	}
	return max(at-took, 0)
}

// parseInfo takes the answer to INFO apart.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// judge tells what is wrong with a node. What it does not say is right.
func judge(info map[string]string) (troubles []error) {
	if v := info["redis_version"]; v != "" && older(v, 6, 2) {
		troubles = append(troubles, fmt.Errorf("%w; it is %s", errOldRedis, v))
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		troubles = append(troubles, fmt.Errorf("%w but %s", ErrEviction, policy))
	}
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	if most, _ := strconv.ParseFloat(info["maxmemory"], 64); most > 0 && used*100 >= most*fullAt {
		troubles = append(troubles, fmt.Errorf("%w; %.0f of %.0f bytes are in use", errMemory, used, most))
	}
	for _, what := range []string{"rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"} {
		if info[what] == "err" {
			troubles = append(troubles, fmt.Errorf("%w; %s is err", errNoDisk, what))
		}
	}
	return troubles
}

// older reports whether a version, 7.0.15, is older than another. Of one that can't be
// read it is not known.
func older(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	return err1 == nil && err2 == nil && (a < major || a == major && b < minor)
}
