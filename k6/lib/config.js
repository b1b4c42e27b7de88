// What perf/load hands to every script, by environment variables.
function number(name, fallback) {
  const v = __ENV[name];
  if (v === undefined || v === '') return fallback;
  const n = Number(v);
  if (!(n >= 0)) throw new Error(`${name}=${v}: want a number, 0 or more`);
  return n;
}

export const cfg = {
  scenario: __ENV.SCENARIO || 'smoke',
  ws: __ENV.WS_URL || 'ws://127.0.0.1:8003/ws',
  api: __ENV.API_URL || '', // none for the baseline
  feed: __ENV.FEED_URL || '', // tells what was produced
  gateway: (__ENV.WS_URL || 'ws://127.0.0.1:8003/ws').replace(/^ws/, 'http').replace(/\/ws$/, ''),
  run: __ENV.RUN || 'load',
  streams: number('STREAMS', 0), // 0: every event is for all; else socket i has stream i % streams
  sockets: number('SOCKETS', 0),
  levels: (__ENV.LEVELS || '').split(',').filter(Boolean).map(Number),
  hold: number('HOLD', 20), // seconds that a level is held
  settle: number('SETTLE', 3), // seconds at the end of a level in which no event is due any more
  late: number('LATE_MS', 1000), // an event that takes longer came too late
  rest: number('REST', 2), // seconds between levels
  summary: __ENV.SUMMARY || '', // file
};
