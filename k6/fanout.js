// fanout: every event is for every socket. It shows the time until the last of them has
// it, and that nobody misses one. k6 takes some 10,000 messages a second beside a server
// on two cores: beyond that, perf/swarm.
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { levels, hold } from './lib/hold.js';
import { summary } from './lib/summary.js';

export const options = {
  ...common,
  scenarios: levels([cfg.sockets], 'all'),
  thresholds: {
    conn_ok: ['rate==1'],
    served: ['rate>0.99'],
    e2e_ms: ['p(99)<500'],
    received: ['count>0'],
    missing: ['count==0'],
    twice: ['count==0'],
    gaps: ['count==0'],
  },
};

export const all = () => hold(cfg.sockets, cfg.sockets);
export const handleSummary = summary();
