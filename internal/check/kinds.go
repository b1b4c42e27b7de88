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
	loses bool          // Redis loses what it held
	one   bool          // possible when everything is in one process
	kafka bool          // possible with a Kafka of our own only
	apart bool          // comes only if it is asked for by name
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
	{name: "partitions-add", about: "the topic gets one more partition", apart: true, do: addPartition},
	{name: "postgres-cut", about: "no network between a process and PostgreSQL", long: 5 * time.Second, do: cutPostgres},
	{name: "postgres-drop", about: "packets between a process and PostgreSQL are dropped, and come late", least: 2 * time.Second, long: 8 * time.Second, do: dropPostgres},
	{name: "postgres-terminate", about: "PostgreSQL ends all sessions", long: 0, do: terminate},
	{name: "clients-cut", about: "no network between clients and a gateway", long: 4 * time.Second, one: true, do: cutClients},
	{name: "clients-drop", about: "packets between clients and a gateway are dropped, and come late", least: time.Second, long: 6 * time.Second, one: true, do: dropClients},
	{name: "clients-slow", about: "slow network between clients and a gateway", long: 5 * time.Second, one: true, do: slowClients},
	{name: "events-large", about: "some events are almost a megabyte", least: time.Second, long: 5 * time.Second, one: true, do: enlarge},
	{name: "all-pause", about: "the one process that everything is in hangs", long: 4 * time.Second, one: true, do: hang(gateways)},
}

// Kinds returns the names of all kinds of faults, and what they are.
func Kinds() (names, about []string) {
	for _, k := range kinds {
		text := k.about
		if k.apart {
			text += "; not one of all: ask for it by name"
		}
		names, about = append(names, k.name), append(about, text)
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
		if missing == "" && (everything && !k.apart || asked) {
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
	}
	return ""
}

// Which services a fault may befall.

func api(c *cluster.Cluster) []*cluster.Service      { return []*cluster.Service{c.API()} }
func filters(c *cluster.Cluster) []*cluster.Service  { return c.Filters() }
func gateways(c *cluster.Cluster) []*cluster.Service { return c.Gateways() }
func everyone(c *cluster.Cluster) []*cluster.Service {
	return slices.Concat(c.Filters(), c.Gateways(), []*cluster.Service{c.API()})
}

type which func(*cluster.Cluster) []*cluster.Service

func kill(of which) func(context.Context, *fault) error {
	return func(ctx context.Context, f *fault) error {
		s, free := f.take(of)
		defer free()
		f.begins(s.Name)
		s.Kill()
		pause(ctx, f.hold)
		return again(ctx, s)
	}
}

// again starts a service that has ended.
func again(ctx context.Context, s *cluster.Service) error {
	if err := s.Start(); err != nil {
		return err
	}
	return ready(ctx, s)
}

// readyLimit bounds how long a process takes to be ready again.
const readyLimit = time.Minute

func ready(ctx context.Context, s *cluster.Service) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return s.Ready(ctx)
}

func killMany(ctx context.Context, f *fault) error {
	victims, free := f.takeSome(everyone)
	defer free()
	names := ""
	for _, s := range victims {
		names += " " + s.Name
	}
	f.begins(names)
	for _, s := range victims {
		s.Kill()
	}
	for _, s := range victims {
		pause(ctx, f.hold/time.Duration(len(victims)))
		if err := s.Start(); err != nil {
			return err
		}
	}
	for _, s := range victims {
		if err := ready(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func hang(of which) func(context.Context, *fault) error {
	return func(ctx context.Context, f *fault) error { return f.hang(ctx, of, f.hold) }
}

// sessionTimeout is how long Kafka waits for a member of a group; see topic.Config.
const sessionTimeout = 10 * time.Second

func zombie(ctx context.Context, f *fault) error {
	return f.hang(ctx, filters, sessionTimeout+time.Second+f.hold)
}

func (f *fault) hang(ctx context.Context, of which, d time.Duration) error {
	s, free := f.take(of)
	defer free()
	f.begins(s.Name)
	if err := s.Pause(); err != nil {
		return err
	}
	pause(ctx, d)
	if err := s.Resume(); err != nil {
		return err
	}
	return ready(ctx, s)
}

func restart(of which) func(context.Context, *fault) error {
	return func(ctx context.Context, f *fault) error {
		s, free := f.take(of)
		defer free()
		f.begins(s.Name)
		if err := s.Stop(); err != nil {
			return err
		}
		pause(ctx, f.hold)
		return again(ctx, s)
	}
}

// scaleFilters leaves each shard as many as it had.
func scaleFilters(ctx context.Context, f *fault) error {
	shard := f.rng.IntN(f.check.cfg.Shards)
	add := func(ctx context.Context) error { return f.check.cluster.AddFilter(ctx, shard) }
	return f.scale(ctx, add, func(c *cluster.Cluster) []*cluster.Service {
		return slices.DeleteFunc(slices.Clone(c.Filters()), func(s *cluster.Service) bool { return s.Shard != shard })
	})
}

func scaleGateways(ctx context.Context, f *fault) error {
	return f.scale(ctx, f.check.cluster.AddGateway, gateways)
}

// scale starts one more service, and after a while stops one of them for good.
func (f *fault) scale(ctx context.Context, add func(context.Context) error, of which) error {
	f.lock()() // its turn
	f.begins("one more")
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := add(limited); err != nil {
		return err
	}
	pause(ctx, f.hold)
	s, free := f.take(of)
	defer free()
	f.check.log.Info("fault", "kind", f.kind.name, "target", s.Name, "now", "leaves")
	return f.check.cluster.Remove(s)
}

func killRedis(ctx context.Context, f *fault) error {
	defer f.takeRedis()()
	f.begins("redis")
	r := f.check.cluster.Redis()
	r.Kill()
	pause(ctx, f.hold)
	return r.Start(ctx)
}

func rollBack(ctx context.Context, f *fault) error {
	defer f.takeRedis()()
	r := f.check.cluster.Redis()
	if err := r.Save(); err != nil {
		return err
	}
	pause(ctx, f.hold)
	f.begins("redis")
	r.Kill()
	if err := r.Rollback(); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	return f.recover(ctx)
}

func flush(ctx context.Context, f *fault) error {
	defer f.takeRedis()()
	f.begins("redis")
	if err := f.check.cluster.Redis().Flush(); err != nil {
		return err
	}
	return f.recover(ctx)
}

// recover gives gateways the time to announce their seats again, which a Redis
// that forgot them does not have.
func (f *fault) recover(ctx context.Context) error {
	pause(ctx, 3*time.Second)
	return nil
}

func hangRedis(ctx context.Context, f *fault) error {
	defer f.takeRedis()()
	f.begins("redis")
	r := f.check.cluster.Redis()
	if err := r.Pause(); err != nil {
		return err
	}
	pause(ctx, f.hold)
	return r.Resume()
}

func killKafka(ctx context.Context, f *fault) error {
	k, free := f.takeKafka()
	defer free()
	k.Kill()
	pause(ctx, f.hold)
	return k.Start(ctx)
}

func hangKafka(ctx context.Context, f *fault) error {
	k, free := f.takeKafka()
	defer free()
	if err := k.Pause(); err != nil {
		return err
	}
	pause(ctx, f.hold)
	return k.Resume()
}

func fullRedis(ctx context.Context, f *fault) error {
	return f.refuseWrites(ctx, (*cluster.Redis).Fill)
}

func readOnlyRedis(ctx context.Context, f *fault) error {
	return f.refuseWrites(ctx, (*cluster.Redis).Demote)
}

func (f *fault) refuseWrites(ctx context.Context, how func(*cluster.Redis) error) error {
	defer f.takeRedis()()
	f.begins("redis")
	r := f.check.cluster.Redis()
	if err := how(r); err != nil {
		return err
	}
	pause(ctx, f.hold)
	return r.Writable()
}

// Where a proxy stands.

type where func(*cluster.Service) *cluster.Proxy

func kafkaOf(s *cluster.Service) *cluster.Proxy    { return s.Kafka }
func redisOf(s *cluster.Service) *cluster.Proxy    { return s.Redis }
func postgresOf(s *cluster.Service) *cluster.Proxy { return s.Postgres }
func clientsOf(s *cluster.Service) *cluster.Proxy  { return s.Clients }

func cutKafka(ctx context.Context, f *fault) error    { return f.cut(ctx, everyone, kafkaOf) }
func cutRedis(ctx context.Context, f *fault) error    { return f.cut(ctx, everyone, redisOf) }
func cutPostgres(ctx context.Context, f *fault) error { return f.cut(ctx, everyone, postgresOf) }
func cutClients(ctx context.Context, f *fault) error  { return f.cut(ctx, gateways, clientsOf) }

func dropKafka(ctx context.Context, f *fault) error    { return f.drop(ctx, everyone, kafkaOf) }
func dropRedis(ctx context.Context, f *fault) error    { return f.drop(ctx, everyone, redisOf) }
func dropPostgres(ctx context.Context, f *fault) error { return f.drop(ctx, everyone, postgresOf) }
func dropClients(ctx context.Context, f *fault) error  { return f.drop(ctx, gateways, clientsOf) }

// cut ends what one service has with others, either at once or by swallowing all
// that passes.
func (f *fault) cut(ctx context.Context, of which, at where) error {
	how := []func(*cluster.Proxy) error{(*cluster.Proxy).Refuse, (*cluster.Proxy).Reset, (*cluster.Proxy).Hang}[f.rng.IntN(3)]
	return f.part(ctx, of, at, how)
}

// drop holds up what one service and others say to each other.
func (f *fault) drop(ctx context.Context, of which, at where) error {
	return f.part(ctx, of, at, (*cluster.Proxy).Drop)
}

func (f *fault) part(ctx context.Context, of which, at where, how func(*cluster.Proxy) error) error {
	s, free := f.take(of)
	defer free()
	p := at(s)
	f.begins(s.Name)
	if err := how(p); err != nil {
		return err
	}
	pause(ctx, f.hold)
	if err := p.Heal(); err != nil {
		return err
	}
	return ready(ctx, s)
}

func slowRedis(ctx context.Context, f *fault) error {
	all, free := f.takeAll(everyone)
	defer free()
	f.begins("all")
	for _, s := range all {
		if err := s.Redis.Slow(20+f.rng.IntN(100), 10); err != nil {
			return err
		}
	}
	pause(ctx, f.hold)
	for _, s := range all {
		if err := s.Redis.Heal(); err != nil {
			return err
		}
	}
	return nil
}

func slowClients(ctx context.Context, f *fault) error {
	s, free := f.take(gateways)
	defer free()
	f.begins(s.Name)
	if err := s.Clients.Slow(50+f.rng.IntN(400), 40); err != nil {
		return err
	}
	pause(ctx, f.hold)
	return s.Clients.Heal()
}

// addPartition has the producer know of it at once, as any that starts now does.
func addPartition(ctx context.Context, f *fault) error {
	f.lock()() // its turn
	f.begins("topic")
	if err := f.check.cluster.AddPartitions(ctx, 1); err != nil {
		return err
	}
	f.check.load.renew.Store(true)
	return nil
}

// enlarge has some events be large for a while.
func enlarge(ctx context.Context, f *fault) error {
	f.lock()() // its turn
	f.begins("load")
	f.check.load.large.Add(1)
	pause(ctx, f.hold)
	f.check.load.large.Add(-1)
	return nil
}

func terminate(ctx context.Context, f *fault) error {
	f.lock()() // its turn
	f.begins("postgres")
	return f.check.cluster.Database().Terminate(ctx)
}
