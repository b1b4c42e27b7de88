// personal: each event is for one socket. It shows that an event costs what it is worth:
// those whom it does not concern cost nothing, and get nothing.
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
