// cliff: 10, 15, 20, … 100 connections, each step held and judged by itself. It shows
// where a server stops serving: the predecessor did well at 10 and failed 98% at 50,
// and nobody had looked in between. Each client has events of its own, few of them, as
// most filters match seldom; that is the worst case for a server that waits for each
// socket in turn.
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { levels, hold } from './lib/hold.js';
import { summary } from './lib/summary.js';

const steps = cfg.levels.length ? cfg.levels : [10, 15, 20, 25, 30, 40, 50, 75, 100];

export const options = {
  ...common,
  scenarios: levels(steps, 'step'),
  thresholds: Object.assign({}, ...steps.map((n) => ({
    [`conn_ok{level:${n}}`]: ['rate>0.99'],
    [`served{level:${n}}`]: ['rate>0.99'],
    [`connect_ms{level:${n}}`]: ['p(99)<5000'],
    [`e2e_ms{level:${n}}`]: ['p(99)<1000'],
    [`missing{level:${n}}`]: ['count==0'],
    [`twice{level:${n}}`]: ['count==0'],
  }))),
};

export const step = () => hold(Number(__ENV.LEVEL), __ENV.LEVEL);
export const handleSummary = summary();
