// ramp: from 100 sockets to as many as one k6 and one gateway may open here. It shows
// that neither the time to connect nor the latency depends on how many are connected.
// Each event is for one of them.
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { levels, hold } from './lib/hold.js';
import { summary } from './lib/summary.js';

const steps = cfg.levels.length ? cfg.levels : [100, 1000, 5000, 10000, 18000];

export const options = {
  ...common,
  scenarios: levels(steps, 'step'),
  thresholds: Object.assign({}, ...steps.map((n) => ({
    [`conn_ok{level:${n}}`]: ['rate==1'],
    [`served{level:${n}}`]: ['rate>0.99'],
    [`connect_ms{level:${n}}`]: ['p(99)<10000'],
    [`e2e_ms{level:${n}}`]: ['p(99)<500'],
    [`missing{level:${n}}`]: ['count==0'],
    [`twice{level:${n}}`]: ['count==0'],
  }))),
};

export const step = () => hold(Number(__ENV.LEVEL), __ENV.LEVEL);
export const handleSummary = summary();
