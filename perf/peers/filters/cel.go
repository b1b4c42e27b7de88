package main

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// celPrograms is a CEL program for each filter, one after another.
type celPrograms struct {
	events   []celEvent
	programs []cel.Program
	pairs    []pair
}

// celEvent is an event as an Activation: its attributes are CEL values already,
// and to look one up takes a switch.
type celEvent struct{ typ, tier, amount ref.Val }

func (e *celEvent) ResolveName(name string) (any, bool) {
	switch name {
	case "event_type":
		return e.typ, true
	case "user_tier":
		return e.tier, true
	case "amount":
		return e.amount, true
	}
	return nil, false
}

func (e *celEvent) Parent() cel.Activation { return nil }

func newCEL(w workload) (*celPrograms, error) {
	env, err := cel.NewEnv(
		cel.Variable("event_type", cel.StringType),
		cel.Variable("user_tier", cel.StringType),
		cel.Variable("amount", cel.DoubleType),
	)
	if err != nil {
		return nil, fmt.Errorf("CEL environment: %w", err)
	}
	e := &celPrograms{programs: make([]cel.Program, len(w.queries)), events: make([]celEvent, len(w.events))}
	for i, q := range w.queries {
		if e.programs[i], err = compileCEL(env, q); err != nil {
			return nil, fmt.Errorf("CEL filter %d: %w", i, err)
		}
	}
	for i, o := range w.events {
		e.events[i] = celEvent{types.String(o.typ), types.String(o.tier), types.Double(o.amount)}
	}
	return e, nil
}

func compileCEL(env *cel.Env, q query) (cel.Program, error) {
	ast, issues := env.Compile(celText(q))
	if err := issues.Err(); err != nil {
		return nil, err
	}
	return env.Program(ast, cel.EvalOptions(cel.OptOptimize))
}

// celText has the type first, which is the faster order here.
func celText(q query) string {
	return fmt.Sprintf(`event_type in %s && user_tier in %s && amount >= %s`, list(q.types), list(q.tiers), q.min)
}

func (e *celPrograms) match(events []int) int {
	e.pairs = e.pairs[:0]
	for _, i := range events {
		ev := &e.events[i]
		for slot, program := range e.programs {
			out, _, err := program.Eval(ev)
			if err != nil {
				panic(err) // the types have been checked
			}
			if out == types.True {
				e.pairs = append(e.pairs, pair{int32(i), int32(slot)})
			}
		}
	}
	return len(e.pairs)
}

func (e *celPrograms) found() []pair { return e.pairs }

func (e *celPrograms) close() {}
