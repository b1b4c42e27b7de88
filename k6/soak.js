// soak: sockets and a modest rate for long. It shows that nothing gets lost and that
// memory stays flat: the resident set of the gateway in the last quarter of the time,
// compared with the second.
import http from 'k6/http';
import { sleep } from 'k6';
import { Gauge, Trend } from 'k6/metrics';
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { levels, hold } from './lib/hold.js';
import { summary } from './lib/summary.js';

const rss = new Trend('gateway_rss_mb');
const growth = new Gauge('gateway_rss_growth');

export const options = {
  ...common,
  scenarios: {
    ...levels([cfg.sockets], 'all'),
    watch: { executor: 'per-vu-iterations', vus: 1, iterations: 1, exec: 'watch', maxDuration: `${cfg.hold + 60}s` },
  },
  thresholds: {
    conn_ok: ['rate==1'],
    served: ['rate>0.99'],
    received: ['count>0'],
    missing: ['count==0'],
    twice: ['count==0'],
    gaps: ['count==0'],
    gateway_rss_growth: ['value<1.25'],
  },
};

export const all = () => hold(cfg.sockets, cfg.sockets);

export function watch() {
  const quarters = [[], [], [], []];
  const began = Date.now();
  for (;;) {
    const quarter = Math.floor((4 * (Date.now() - began)) / (cfg.hold * 1000));
    if (quarter > 3) break;
    const text = http.get(`${cfg.gateway}/metrics`, { tags: { name: 'metrics' } }).body;
    const mb = Number(/^process_resident_memory_bytes (\S+)/m.exec(text)[1]) / 1e6;
    rss.add(mb);
    quarters[quarter].push(mb);
    sleep(Math.max(0.5, cfg.hold / 200));
  }
  const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
  growth.add(mean(quarters[3]) / mean(quarters[1]));
}

export const handleSummary = summary();
