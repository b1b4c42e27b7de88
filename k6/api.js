// api: filters are created, read, listed, replaced and deleted at a constant rate of
// arrivals, so that a slow answer does not slow down those who ask. It shows the API's
// latency, and that a write with an old ETag is refused.
import http from 'k6/http';
import { check } from 'k6';
import exec from 'k6/execution';
import { cfg } from './lib/config.js';
import { common } from './lib/stats.js';
import { summary } from './lib/summary.js';

export const options = {
  ...common,
  scenarios: {
    crud: {
      executor: 'constant-arrival-rate', exec: 'crud', rate: Number(__ENV.RATE || 20), timeUnit: '1s',
      duration: `${cfg.hold}s`, preAllocatedVUs: 20, maxVUs: 100,
    },
  },
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    'http_req_duration{name:create}': ['p(99)<500'],
    'http_req_duration{name:read}': ['p(99)<250'],
    'http_req_duration{name:list}': ['p(99)<250'],
    'http_req_duration{name:replace}': ['p(99)<500'],
    'http_req_duration{name:delete}': ['p(99)<500'],
  },
};

export function crud() {
  const who = `${cfg.run}-api-${exec.scenario.iterationInTest}`;
  const send = (method, path, body, name, headers) =>
    http.request(method, cfg.api + path, body ? JSON.stringify(body) : null, { headers: { 'Content-Type': 'application/json', ...headers }, tags: { name } });
  const spec = { subscriber_id: who, event_types: ['purchase'], min_amount: 10 };

  const made = send('POST', '/filters', spec, 'create');
  if (!check(made, { 'created: 201': (r) => r.status === 201 })) return;
  const path = `/filters/${made.json('id')}`;
  const read = send('GET', path, null, 'read');
  check(read, { 'read: 200, as it was made': (r) => r.status === 200 && r.json('subscriber_id') === who });
  const etag = read.headers.Etag;
  check(send('GET', `/filters?subscriber_id=${who}`, null, 'list'), { 'listed: one': (r) => r.status === 200 && r.json('filters').length === 1 });
  check(send('PUT', path, { ...spec, min_amount: 20 }, 'replace', { 'If-Match': etag }), { 'replaced: 200': (r) => r.status === 200 });
  check(send('PUT', path, { ...spec, min_amount: 30 }, 'conflict', { 'If-Match': etag }), { 'with the old ETag: 412': (r) => r.status === 412 });
  check(send('DELETE', path, null, 'delete'), { 'deleted: 204': (r) => r.status === 204 });
  check(send('GET', path, null, 'gone'), { 'gone: 404': (r) => r.status === 404 });
}

export const handleSummary = summary();
