package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"eventstream/internal/check/cluster"
)

// kind is one kind of fault.
type kind struct {
	name  string
	about string
	least time.Duration // that it holds
	long  time.Duration // bounds how long it holds
	takes time.Duration // beyond that; it does not come when there is less time left
	loses bool          // Redis loses what it held
	one   bool          // possible when everything is in one process
	kafka bool          // possible with a Kafka of our own only
	store bool          // possible with a PostgreSQL server of our own only
	clock bool          // possible where clocks can be stepped only
	do    func(context.Context, *fault) error
}

// kinds are all faults there are.
var kinds = []kind{
	{name: "api-kill", about: "kill -9 of the filter API", long: 2 * time.Second, do: kill(api)},
	{name: "filter-kill", about: "kill -9 of a filter service", long: 4 * time.Second, do: kill(filters)},
	{name: "gateway-kill", about: "kill -9 of a gateway", long: 4 * time.Second, do: kill(gateways)},
	{name: "many-kill", about: "kill -9 of several processes at once", long: 3 * time.Second, do: killMany},
	{name: "api-pause", about: "the filter API hangs", long: 3 * time.Second, do: hang(api)},
	{name: "filter-pause", about: "a filter service hangs", long: 4 * time.Second, do: hang(filters)},
	{name: "gateway-pause", about: "a gateway hangs", long: 4 * time.Second, do: hang(gateways)},
	{name: "filter-zombie", about: "a filter service hangs until Kafka gives its partitions away", long: 2 * time.Second, do: zombie},
	{name: "api-restart", about: "the filter API is stopped and started", long: time.Second, do: restart(api)},
	{name: "filter-restart", about: "a filter service is stopped and started", long: time.Second, do: restart(filters)},
	{name: "gateway-restart", about: "a gateway is stopped and started", long: time.Second, do: restart(gateways)},
	{name: "filter-scale", about: "a filter service joins, and leaves later", long: 6 * time.Second, do: scaleFilters},
	{name: "gateway-scale", about: "a gateway joins, and leaves later", long: 6 * time.Second, do: scaleGateways},
	{name: "redis-kill", about: "kill -9 of Redis", long: 2 * time.Second, do: killRedis},
	{name: "redis-rollback", about: "kill -9 of Redis, which forgets its last seconds", long: 4 * time.Second, least: 500 * time.Millisecond, loses: true, do: rollBack},
	{name: "redis-flush", about: "FLUSHALL", long: 0, loses: true, do: flush},
	{name: "redis-pause", about: "Redis hangs", long: 4 * time.Second, do: hangRedis},
	{name: "redis-cut", about: "no network between a process and Redis", long: 5 * time.Second, do: cutRedis},
	{name: "redis-drop", about: "packets between a process and Redis are dropped, and come late", least: 3 * time.Second, long: 12 * time.Second, do: dropRedis},
	{name: "redis-full", about: "Redis is out of memory", long: 4 * time.Second, do: fullRedis},
	{name: "redis-readonly", about: "Redis takes no writes, as a replica", long: 4 * time.Second, do: readOnlyRedis},
	{name: "redis-slow", about: "slow network between all processes and Redis", long: 4 * time.Second, do: slowRedis},
	{name: "kafka-kill", about: "kill -9 of Kafka", long: 3 * time.Second, kafka: true, do: killKafka},
	{name: "kafka-pause", about: "Kafka hangs", long: 6 * time.Second, kafka: true, do: hangKafka},
	{name: "kafka-cut", about: "no network between a process and Kafka", long: 8 * time.Second, kafka: true, do: cutKafka},
	{name: "kafka-drop", about: "packets between a process and Kafka are dropped, and come late", least: 3 * time.Second, long: 11 * time.Second, kafka: true, do: dropKafka},
	{name: "kafka-leaderless", about: "the only broker of a partition is away, and a filter service restarts", least: 2 * time.Second, long: 8 * time.Second, takes: 20 * time.Second, kafka: true, do: loseLeader},
	{name: "kafka-lose", about: "Kafka loses its newest records, and gives their offsets again until skip-lost", least: 500 * time.Millisecond, long: 4 * time.Second, kafka: true, do: loseRecords},
	{name: "partitions-add", about: "the topic gets one more partition", do: addPartition},
	{name: "postgres-cut", about: "no network between a process and PostgreSQL", long: 5 * time.Second, do: cutPostgres},
	{name: "postgres-drop", about: "packets between a process and PostgreSQL are dropped, and come late", least: 2 * time.Second, long: 8 * time.Second, do: dropPostgres},
	{name: "postgres-terminate", about: "PostgreSQL ends all sessions", long: 0, do: terminate},
	{name: "postgres-restore", about: "a base backup is put in place of the database", long: 4 * time.Second, least: time.Second, takes: 5 * time.Second, store: true, do: restoreDatabase},
	{name: "clients-cut", about: "no network between clients and a gateway", long: 4 * time.Second, one: true, do: cutClients},
	{name: "clients-drop", about: "packets between clients and a gateway are dropped, and come late", least: time.Second, long: 6 * time.Second, one: true, do: dropClients},
	{name: "clients-slow", about: "slow network between clients and a gateway", long: 5 * time.Second, one: true, do: slowClients},
	{name: "clock-step", about: "a process's clock is minutes ahead, or behind, and then right again", least: time.Second, long: 5 * time.Second, clock: true, do: stepClock},
	{name: "events-large", about: "some events are almost a megabyte", least: time.Second, long: 5 * time.Second, one: true, do: enlarge},
	{name: "all-pause", about: "the one process that everything is in hangs", long: 4 * time.Second, one: true, do: hang(gateways)},
}

// Kinds returns the names of all kinds of faults, and what they are.
func Kinds() (names, about []string) {
	for _, k := range kinds {
		names, about = append(names, k.name), append(about, k.about)
	}
	return names, about
}

// FaultError reports kinds of faults that can't be had.
type FaultError struct{ detail string }

func (e *FaultError) Error() string { return e.detail }

// chosen returns the kinds that are asked for and possible.
func chosen(names []string, c *cluster.Config) ([]kind, error) {
	all, _ := Kinds()
	for _, n := range names {
		if !slices.Contains(all, n) && n != "all" && n != "none" {
			return nil, &FaultError{fmt.Sprintf("unknown fault %q; allowed are all, none, or some of %s", n, strings.Join(all, ","))}
		}
	}
	if slices.Contains(names, "none") && len(names) > 1 {
		return nil, &FaultError{fmt.Sprintf("faults %s: none does not go with others", strings.Join(names, ","))}
	}
	if slices.Contains(names, "none") {
		return nil, nil
	}
	everything := len(names) == 0 || slices.Contains(names, "all")
	var out []kind
	for _, k := range kinds {
		missing := k.missing(c)
		asked := slices.Contains(names, k.name)
		if asked && missing != "" {
			return nil, &FaultError{fmt.Sprintf("fault %s is not possible here: it needs %s", k.name, missing)}
		}
		if missing == "" && (everything || asked) {
			out = append(out, k)
		}
	}
	return out, nil
}

// missing says what the fault needs that is not there, "" if it is possible.
func (k kind) missing(c *cluster.Config) string {
	switch native := c.Native(); {
	case native && k.name == "all-pause":
		return "everything in one process (--one-process)"
	case !native && !k.one:
		return "Kafka and PostgreSQL of make services, and redis-server"
	case k.kafka && c.Broker == (cluster.KafkaFiles{}):
		return "the Kafka that make services installs where it uses no containers, to run one of its own"
	case k.store && c.Server == "":
		return "PostgreSQL's programs, to run a server of its own"
	case k.clock && !c.Clocks:
		return "Linux on amd64, and the right to change the memory of processes that it has started"
	}
	return ""
}
