import { Counter, Rate, Trend } from 'k6/metrics';

// The same names in all scenarios. "level" is a tag: the number of sockets, or the phase.
export const stats = {
  connected: new Rate('conn_ok'), // connected and greeted within 10 s, and open until the end
  served: new Rate('served'), // that, and every event that was due came, and in time
  connect: new Trend('connect_ms', true), // from dial to hello
  latency: new Trend('e2e_ms', true), // from production to arrival at the socket
  received: new Counter('received'),
  missing: new Counter('missing'),
  twice: new Counter('twice'), // within one connection, or again and not at the seam of a resume
  disorder: new Counter('disorder'),
  late: new Counter('late'),
  seam: new Counter('seam'), // came again after a resume, which is allowed
  closed: new Counter('closed_early'),
  gaps: new Counter('gaps'), // the server said that something is missing
};

export const trendStats = ['count', 'min', 'avg', 'med', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max'];

// Series by subscriber or address would fill the memory.
export const common = {
  systemTags: ['status', 'scenario', 'name'],
  summaryTrendStats: trendStats,
  noConnectionReuse: false,
  discardResponseBodies: false,
};
