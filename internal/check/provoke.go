package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	"eventstream/internal/check/cluster"
)

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
		return f.again(ctx, s)
	}
}

// again starts a service that has ended.
func (f *fault) again(ctx context.Context, s *cluster.Service) error {
	if err := s.Start(); err != nil {
		return err
	}
	return f.ready(ctx, s)
}

// readyLimit bounds how long a process takes to be ready again.
const readyLimit = time.Minute

// ready waits until a service is ready. While another fault keeps a server away it can't be:
// then it has its time once more.
func (f *fault) ready(ctx context.Context, s *cluster.Service) error {
	for {
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, readyLimit)
		err := s.Ready(limited)
		cancel()
		if err == nil || ctx.Err() != nil || !f.disturbed(began) {
			return err
		}
	}
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
		if err := f.ready(ctx, s); err != nil {
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
	return f.ready(ctx, s)
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
		return f.again(ctx, s)
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
	r, free := f.takeRedis()
	defer free()
	f.begins(r.Name)
	r.Kill()
	pause(ctx, f.hold)
	return r.Start(ctx)
}

func rollBack(ctx context.Context, f *fault) error {
	r, free := f.takeRedis()
	defer free()
	if err := r.Save(); err != nil {
		return err
	}
	pause(ctx, f.hold)
	f.begins(r.Name)
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
	r, free := f.takeRedis()
	defer free()
	f.begins(r.Name)
	if err := r.Flush(); err != nil {
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
	r, free := f.takeRedis()
	defer free()
	f.begins(r.Name)
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
	r, free := f.takeRedis()
	defer free()
	f.begins(r.Name)
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
	defer f.lock(p)() // several may share it
	f.begins(s.Name)
	if err := how(p); err != nil {
		return err
	}
	pause(ctx, f.hold)
	if err := p.Heal(); err != nil {
		return err
	}
	return f.ready(ctx, s)
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
	defer f.lock(f.check.cluster.Broker())() // one that is stopped makes no partitions
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
	defer f.lock(f.check.cluster.Database())()
	f.begins("postgres")
	return f.check.cluster.Database().Terminate(ctx)
}

// mostAhead keeps the clocks of two services within what gateways take cursors of.
const mostAhead = 4 * time.Minute

func stepClock(ctx context.Context, f *fault) error {
	s, free := f.take(everyone)
	defer free()
	ahead := between(f.rng, 10*time.Second, mostAhead)
	if f.rng.IntN(2) == 0 {
		ahead = -ahead
	}
	f.begins(fmt.Sprintf("%s, %s", s.Name, ahead.Round(time.Second)))
	if err := s.Step(ahead); err != nil {
		return err
	}
	pause(ctx, f.hold)
	if err := s.Step(0); err != nil {
		return err
	}
	return f.ready(ctx, s)
}
