package check

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"eventstream/internal/check/cluster"
)

func config(seed uint64) Config {
	return Config{
		Seed: seed, Duration: time.Minute,
		Cluster: cluster.Config{Kafka: []string{"k"}, Postgres: "p", Redis: "r", Broker: cluster.KafkaFiles{Java: "j", Jars: "k"}, Server: "s", Clocks: true},
	}.withDefaults()
}

// TestPlan: the same seed makes the same plan, and another one another.
func TestPlan(t *testing.T) {
	plans := make(map[uint64]string)
	for _, seed := range []uint64{1, 2, 1} {
		p, err := newPlan(config(seed))
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%v %v %v", p.subscribers, p.clients, p.faults)
		for _, s := range p.pool {
			spec, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			text += string(spec)
		}
		if before, ok := plans[seed]; ok && before != text {
			t.Errorf("seed %d made two plans", seed)
		}
		plans[seed] = text
	}
	if plans[1] == plans[2] {
		t.Error("seeds 1 and 2 made the same plan")
	}
}

// TestFilters: no seed makes a filter that the API would refuse.
func TestFilters(t *testing.T) {
	for seed := range uint64(200) {
		p, err := newPlan(config(seed))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.pool {
			own := *s
			own.SubscriberID = "s"
			if err := own.Validate(); err != nil {
				t.Errorf("seed %d: filter %+v: %v", seed, s, err)
			}
		}
	}
}

// TestKinds: every kind of fault comes in a long run, and only what is possible.
func TestKinds(t *testing.T) {
	for _, native := range []bool{true, false} {
		cfg := config(1)
		if !native {
			cfg.Cluster = cluster.Config{}
		}
		cfg.Duration = 3 * time.Minute
		p, err := newPlan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for _, f := range p.faults {
			seen[f.kind.name] = true
		}
		for _, k := range kinds {
			want := native && k.name != "all-pause" || !native && k.one
			if seen[k.name] != want {
				t.Errorf("native %t: %s came: %t, want %t", native, k.name, seen[k.name], want)
			}
		}
	}
}

// TestTakes: what takes long comes only if there is time left for it.
func TestTakes(t *testing.T) {
	for seed := range uint64(50) {
		cfg := config(seed)
		cfg.Duration = 25 * time.Second
		p, err := newPlan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range p.faults {
			if f.at+f.kind.takes >= cfg.Duration {
				t.Errorf("seed %d: %v, of %v", seed, f, cfg.Duration)
			}
		}
		cfg.Faults, cfg.Duration = []string{"kafka-leaderless"}, 15*time.Second
		if p, err = newPlan(cfg); err != nil || len(p.faults) > 0 {
			t.Errorf("seed %d: got faults %v and error %v, want none", seed, p.faults, err)
		}
	}
}

func TestChosen(t *testing.T) {
	own := config(1).Cluster
	shared := own
	shared.Broker = cluster.KafkaFiles{}
	plain := own
	plain.Server, plain.Clocks = "", false
	one := cluster.Config{}
	for _, tt := range []struct {
		names []string
		on    cluster.Config
		want  int
		err   string
	}{
		{[]string{"all"}, own, len(kinds) - 1, ""},
		{[]string{"none"}, own, 0, ""},
		{[]string{"redis-kill", "api-kill"}, own, 2, ""},
		{[]string{"all"}, shared, len(kinds) - 7, ""},
		{[]string{"all"}, plain, len(kinds) - 3, ""},
		{[]string{"all"}, one, 5, ""},
		{[]string{"none", "all"}, own, 0, "faults none,all: none does not go with others"},
		{[]string{"redis-kill"}, one, 0, "fault redis-kill is not possible here: it needs Kafka and PostgreSQL of make services, and redis-server"},
		{[]string{"kafka-kill"}, shared, 0, "fault kafka-kill is not possible here: it needs the Kafka that make services installs where it uses no containers, to run one of its own"},
		{[]string{"postgres-restore"}, plain, 0, "fault postgres-restore is not possible here: it needs PostgreSQL's programs, to run a server of its own"},
		{[]string{"clock-step"}, plain, 0, "fault clock-step is not possible here: it needs Linux on amd64, and the right to change the memory of processes that it has started"},
		{[]string{"all-pause"}, own, 0, "fault all-pause is not possible here: it needs everything in one process (--one-process)"},
	} {
		got, err := chosen(tt.names, &tt.on)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if len(got) != tt.want || text != tt.err {
			t.Errorf("%v, %+v: got %d kinds and error %q, want %d and %q", tt.names, tt.on, len(got), text, tt.want, tt.err)
		}
	}
	if _, err := chosen([]string{"fire"}, &own); err == nil {
		t.Error("an unknown fault: got no error")
	}
}
