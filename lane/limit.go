package lane

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// takeScript: KEYS until when time is taken up, in µs of the server's clock; ARGV
// µs to take, the most that may be taken up. Whole numbers of µs are exact in
// Lua until the year 2255. If more than the most is taken up, the clock was stepped
// back meanwhile: then it is the most.
var takeScript = rueidis.NewLuaScript(`
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local most = tonumber(ARGV[2])
local function keep(taken) redis.call('SET', KEYS[1], string.format('%.0f', now + taken), 'PX', math.ceil(taken / 1000)) end
local taken = math.max((tonumber(redis.call('GET', KEYS[1]) or '0')) - now, 0)
if taken > most then
  taken = most
  keep(taken)
end
local after = taken + ARGV[1]
if after > most then return {0, taken} end
keep(after)
return {1, after}
`)

// TakeTime takes up interval more of a name's time, if no more than per is taken
// up then, for all processes at once. It returns how much is taken up.
func (r *Redis) TakeTime(ctx context.Context, name string, interval, per time.Duration) (ok bool, taken time.Duration, err error) {
	args := []string{strconv.FormatInt(interval.Microseconds(), 10), strconv.FormatInt(per.Microseconds(), 10)}
	got, err := r.exec(ctx, takeScript, []string{r.key("limit:" + name)}, args).AsIntSlice()
	if err == nil && len(got) != 2 {
		err = fmt.Errorf("answer %v", got)
	}
	if err != nil {
		return false, 0, fmt.Errorf("redis rate limit: %w", err)
	}
	return got[0] == 1, time.Duration(got[1]) * time.Microsecond, nil
}
