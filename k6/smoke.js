// smoke: a few sockets and every kind of request once, in seconds. It shows that the
// whole way works, from a filter over an event to its acknowledgement, and is part of CI.
import http from 'k6/http';
import { check } from 'k6';
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { Subscriber } from './lib/socket.js';
import { levels, hold, later } from './lib/hold.js';
import { crud as once } from './api.js';
import { summary } from './lib/summary.js';

export const options = {
  ...common,
  scenarios: {
    ...levels([cfg.sockets], 'all'),
    ack: { executor: 'per-vu-iterations', vus: 1, iterations: 1, exec: 'ack', maxDuration: '30s' },
    crud: { executor: 'per-vu-iterations', vus: 1, iterations: 3, exec: 'crud', maxDuration: '30s' },
  },
  thresholds: {
    checks: ['rate==1'],
    conn_ok: ['rate==1'],
    served: ['rate==1'],
    received: ['count>0'],
    missing: ['count==0'],
    twice: ['count==0'],
    gaps: ['count==0'],
    closed_early: ['count==0'],
  },
};

export const all = () => hold(cfg.sockets, cfg.sockets);
export const crud = once;

// ack connects one more, acknowledges what it has got, and looks the acknowledgement up.
export async function ack() {
  const s = new Subscriber(cfg.sockets, 'ack');
  const answered = new Promise((resolve) => {
    s.onother = (m) => m.type === 'acked' && resolve(m.cursor);
  });
  await s.connect();
  await later(1000);
  const cursor = s.cursor;
  s.ws.send(JSON.stringify({ type: 'ack', cursor }));
  const acked = await Promise.race([answered, later(5000)]);
  const found = http.get(`${cfg.api}/subscribers/${cfg.run}-${cfg.sockets}/ack`, { tags: { name: 'ack' } });
  check(acked, { 'acknowledged: as sent': (a) => a === cursor });
  check(found, { 'acknowledgement: 200': (r) => r.status === 200 });
  s.leave();
}

export const handleSummary = summary();
