import http from 'k6/http';
import exec from 'k6/execution';
import { cfg } from './config.js';
import { Subscriber } from './socket.js';

// One VU is one event loop: with all sockets in one, its queue would pass for latency
// of the server; with a VU for each, k6 needs twice the memory.
export const VUS = 10;

// levels returns a k6 scenario for each number of sockets, one after the other.
export function levels(counts, fn) {
  const out = {};
  counts.forEach((n, k) => {
    out[`level_${n}`] = {
      executor: 'per-vu-iterations',
      vus: Math.min(VUS, n),
      iterations: 1,
      startTime: `${k * (cfg.hold + cfg.rest)}s`,
      maxDuration: `${cfg.hold + cfg.rest}s`, // then k6 gives up handshakes that are under way
      gracefulStop: '0s',
      exec: fn,
      env: { LEVEL: `${n}` },
    };
  });
  return out;
}

// mine returns the numbers of this VU's share of n sockets.
export function mine(n) {
  const vus = Math.min(VUS, n);
  const me = exec.scenario.iterationInTest;
  const out = [];
  for (let i = me; i < n; i += vus) out.push(i);
  return out;
}

export const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// hold opens this VU's share of n sockets, keeps them open for the level's time, and judges.
export async function hold(n, level) {
  const end = Date.now() + cfg.hold * 1000;
  const subscribers = mine(n).map((i) => new Subscriber(i, level));
  for (const s of subscribers) s.connect();
  await later(Math.max(0, end - cfg.settle * 1000 - Date.now()));
  const until = Date.now() * 1000; // what is produced from now on is not counted
  await later(Math.max(0, end - Date.now()));
  for (const s of subscribers) if (!s.open) s.failed = true;
  judge(subscribers, until);
  for (const s of subscribers) s.leave();
}

// judge asks what was produced while each was connected, and compares.
export function judge(subscribers, until) {
  if (subscribers.length === 0) return;
  const asked = subscribers.map((s) => [s.stream, s.since ? s.since + 1000 : until, until]);
  const res = http.post(`${cfg.feed}/between`, JSON.stringify(asked), { tags: { name: 'feed' } });
  if (res.status !== 200) throw new Error(`${cfg.feed}/between: ${res.status} ${res.body}`);
  res.json().forEach(([first, last], k) => subscribers[k].judge(first, last));
}
