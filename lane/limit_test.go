package lane

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventstream/internal/testenv"
)

// Two processes together let through what one would, and no more.
func TestTakeTime(t *testing.T) {
	addr := testenv.Redis(t).Addr
	processes := []*Redis{newRedis(t, RedisConfig{Addr: addr}), newRedis(t, RedisConfig{Addr: addr})}
	const n, per = 20, time.Hour
	var passed atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		r := processes[i%2]
		all.Go(func() {
			for range 10 {
				ok, taken, err := r.TakeTime(t.Context(), "k:a", per/n, per)
				if err != nil || taken > per {
					t.Errorf("TakeTime = %t, %v, %v", ok, taken, err)
				}
				if ok {
					passed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if passed.Load() != n {
		t.Errorf("%d of 80 passed, want %d", passed.Load(), n)
	}
	if ok, taken, err := processes[0].TakeTime(t.Context(), "k:b", per/n, per); !ok || taken != per/n || err != nil {
		t.Errorf("another name: %t, %v, %v", ok, taken, err)
	}
}

// What is taken up runs out.
func TestTakeTimePasses(t *testing.T) {
	r := newRedis(t, RedisConfig{Addr: testenv.Redis(t).Addr})
	const per = 50 * time.Millisecond
	take := func() bool {
		ok, _, err := r.TakeTime(t.Context(), "k:a", per, per)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !take() {
		t.Fatal("the first one did not pass")
	}
	began := time.Now()
	for !take() {
		if time.Since(began) > 5*time.Second {
			t.Fatal("nothing passes any more")
		}
	}
	if waited := time.Since(began); waited < per/2 {
		t.Errorf("the second one passed after %v, want about %v", waited, per)
	}
}

// A server's clock that is stepped back makes nobody wait for longer than the period.
func TestTakeTimeClockStepsBack(t *testing.T) {
	redis := testenv.Redis(t)
	r := newRedis(t, RedisConfig{Addr: redis.Addr})
	const per = 50 * time.Millisecond
	ahead := time.Now().Add(time.Hour).UnixMicro() // written before the step
	redis.Do("SET", r.key("limit:k:a"), strconv.FormatInt(ahead, 10))
	ok, taken, err := r.TakeTime(t.Context(), "k:a", per, per)
	if ok || taken != per || err != nil {
		t.Fatalf("TakeTime = %t, %v, %v, want a refusal with %v taken up", ok, taken, err, per)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		ok, taken, err := r.TakeTime(t.Context(), "k:a", per, per)
		if err == nil && !ok {
			err = fmt.Errorf("refused, with %v taken up", taken)
		}
		return err
	})
}
