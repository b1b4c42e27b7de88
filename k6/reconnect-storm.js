// reconnect-storm: all sockets are up, drop at once, and come back at once with their
// cursors, while events go on. It shows that none is lost, and how long the last one
// waits for its hello. What comes again must be at the seam, with a number it had before.
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { Subscriber } from './lib/socket.js';
import { levels, mine, judge, later } from './lib/hold.js';
import { summary } from './lib/summary.js';

const AWAY_MS = 2000;

export const options = {
  ...common,
  scenarios: levels([cfg.sockets], 'storm'),
  thresholds: {
    conn_ok: ['rate==1'],
    'connect_ms{level:resume}': ['p(99)<10000'],
    received: ['count>0'],
    missing: ['count==0'],
    twice: ['count==0'],
    gaps: ['count==0'],
    closed_early: ['count==0'],
  },
};

export async function storm() {
  const end = Date.now() + cfg.hold * 1000;
  const subscribers = mine(cfg.sockets).map((i) => new Subscriber(i, 'first'));
  await Promise.all(subscribers.map((s) => s.connect()));
  await later(Math.max(0, end - cfg.hold * 600 - Date.now())); // after 40% of the time
  for (const s of subscribers) s.leave();
  await later(AWAY_MS);
  for (const s of subscribers) {
    s.tags = { level: 'resume' };
    s.resumed = true; // what was produced meanwhile can't come in time
  }
  await Promise.all(subscribers.map((s) => s.connect()));
  await later(Math.max(0, end - cfg.settle * 1000 - Date.now()));
  const until = Date.now() * 1000;
  await later(cfg.settle * 1000);
  for (const s of subscribers) if (!s.open) s.failed = true;
  judge(subscribers, until);
  for (const s of subscribers) s.leave();
}

export const handleSummary = summary();
