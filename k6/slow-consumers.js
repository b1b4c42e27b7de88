// slow-consumers: first everybody reads; then 5% more connect who don't. It shows that
// the latency of those who read does not move. The slow ones are of k6/ws, whose read
// blocks in a handler that sleeps; k6/websockets reads ahead without a bound.
import legacy from 'k6/ws';
import { sleep } from 'k6';
import { Counter } from 'k6/metrics';
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { levels, hold } from './lib/hold.js';
import { summary } from './lib/summary.js';

const slow = Math.max(1, Math.floor(cfg.sockets / 20));
const took = new Counter('slow_took'); // messages that the slow ones read
const begin = cfg.hold + cfg.rest;

const [alone] = Object.values(levels([cfg.sockets], 'alone'));
const beside = { ...alone, exec: 'beside', startTime: `${begin}s` };

export const options = {
  ...common,
  scenarios: {
    alone,
    beside,
    slow: {
      executor: 'per-vu-iterations', vus: slow, iterations: 1, exec: 'dawdle',
      startTime: `${begin}s`, maxDuration: `${cfg.hold}s`, gracefulStop: '0s',
    },
  },
  thresholds: {
    conn_ok: ['rate==1'],
    missing: ['count==0'],
    twice: ['count==0'],
    'served{level:alone}': ['rate>0.99'],
    'served{level:beside}': ['rate>0.99'],
    'e2e_ms{level:alone}': ['p(99)<500'],
    'e2e_ms{level:beside}': ['p(99)<500'],
    slow_took: ['count>0'],
  },
};

const alone_ = () => hold(cfg.sockets, 'alone');
const beside_ = () => hold(cfg.sockets, 'beside');
export { alone_ as alone, beside_ as beside };

export function dawdle() {
  // Beyond those who read, so that each has a filter of its own.
  const who = `${cfg.run}-${cfg.sockets + __VU % slow}`;
  legacy.connect(`${cfg.ws}?subscriber_id=${who}`, { tags: { name: 'slow' } }, (socket) => {
    socket.on('message', () => {
      took.add(1);
      sleep(cfg.hold);
    });
  });
}

export const handleSummary = summary((metrics) => {
  const p99 = (level) => metrics[`e2e_ms{level:${level}}`].values['p(99)'];
  const allowed = 2 * p99('alone') + 20; // of noise
  return [[`p99 of those who read: ${p99('alone').toFixed(1)} ms alone, ${p99('beside').toFixed(1)} ms beside ${slow} who don't, allowed ${allowed.toFixed(1)} ms`,
    p99('beside') <= allowed]];
});
