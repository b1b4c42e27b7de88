package lane

import (
	"errors"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name, info string
		want       error
	}{
		{"nothing said", "", nil},
		{"well", "# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\nused_memory:89\r\nmaxmemory:100\r\naof_last_write_status:ok\r\n", nil},
		{"no limit of memory", "used_memory:1000\r\nmaxmemory:0\r\n", nil},
		{"evicts", "maxmemory_policy:volatile-lru\r\n", ErrEviction},
		{"full", "used_memory:90\r\nmaxmemory:100\r\n", errMemory},
		{"can't append", "aof_last_write_status:err\r\n", errNoDisk},
		{"can't save", "rdb_last_bgsave_status:err\r\n", errNoDisk},
		{"old", "redis_version:6.0.16\r\n", errOldRedis},
		{"very old", "redis_version:5.9.1\r\n", errOldRedis},
		{"old enough", "redis_version:6.2.0\r\n", nil},
		{"new", "redis_version:10.0\r\n", nil},
		{"unreadable", "redis_version:unstable\r\n", nil},
	} {
		if got := errors.Join(judge(parseInfo(tt.info))...); !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestBeyond(t *testing.T) {
	for _, tt := range []struct{ at, took, want time.Duration }{
		{0, 0, 0}, {3, 5, 0}, {5, 5, 0}, {7, 5, 2}, {-2, 5, -2},
	} {
		if got := beyond(tt.at, tt.took); got != tt.want {
			t.Errorf("beyond(%d, %d) = %d, want %d", tt.at, tt.took, got, tt.want)
		}
	}
}
