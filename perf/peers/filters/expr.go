package main

import (
	"fmt"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// exprPrograms is an expr-lang program for each filter, one after another on one
// machine. A map is the environment that expr-lang looks names up in fastest.
type exprPrograms struct {
	events   []map[string]any
	programs []*vm.Program
	machine  vm.VM
	pairs    []pair
}

func newExpr(w workload) (*exprPrograms, error) {
	e := &exprPrograms{programs: make([]*vm.Program, len(w.queries)), events: make([]map[string]any, len(w.events))}
	env := map[string]any{"event_type": "", "user_tier": "", "amount": 0.0}
	for i, q := range w.queries {
		var err error
		if e.programs[i], err = expr.Compile(exprText(q), expr.Env(env), expr.AsBool()); err != nil {
			return nil, fmt.Errorf("expr filter %d: %w", i, err)
		}
	}
	for i, o := range w.events {
		e.events[i] = map[string]any{"event_type": o.typ, "user_tier": o.tier, "amount": o.amount}
	}
	return e, nil
}

// exprText has the amount first, which is the faster order here.
func exprText(q query) string {
	return fmt.Sprintf(`amount >= %s && event_type in %s && user_tier in %s`, q.min, list(q.types), list(q.tiers))
}

func (e *exprPrograms) match(events []int) int {
	e.pairs = e.pairs[:0]
	for _, i := range events {
		ev := e.events[i]
		for slot, program := range e.programs {
			out, err := e.machine.Run(program, ev)
			if err != nil {
				panic(err) // the types have been checked
			}
			if out.(bool) {
				e.pairs = append(e.pairs, pair{int32(i), int32(slot)})
			}
		}
	}
	return len(e.pairs)
}

func (e *exprPrograms) found() []pair { return e.pairs }

func (e *exprPrograms) close() {}
