import { WebSocket } from 'k6/websockets';
import { cfg } from './config.js';
import { stats } from './stats.js';

const PATIENCE_MS = 10_000; // to connect

// hangUp closes a socket. One that is still connecting is closed when it has: k6 1.8.1
// hangs for ever in close() before that.
function hangUp(ws) {
  if (ws.readyState === 1) ws.close();
}

// Subscriber is one that may connect several times. It checks what it gets by the
// numbers that events have within their stream.
export class Subscriber {
  constructor(i, level) {
    this.i = i;
    this.tags = { level: `${level}` };
    this.stream = cfg.streams > 0 ? i % cfg.streams : 0;
    this.cursor = '';
    this.first = 0; // numbers of the first and the last event that came
    this.last = 0;
    this.since = 0; // when the first hello came, µs
    this.lost = 0;
    this.tooLate = 0;
    this.open = false;
    this.failed = false;
  }

  // connect dials, with the cursor of last time, and resolves when there is a hello or no hope.
  connect() {
    const query = `subscriber_id=${cfg.run}-${this.i}` + (this.cursor ? `&cursor=${encodeURIComponent(this.cursor)}` : '');
    const began = Date.now();
    this.seamUntil = this.last;
    this.leaving = false;
    return new Promise((resolve) => {
      const ws = new WebSocket(`${cfg.ws}?${query}`, null, { tags: { name: 'ws' } });
      this.ws = ws;
      const patience = setTimeout(() => {
        this.fail(ws, resolve);
      }, PATIENCE_MS);
      ws.onmessage = (e) => {
        const m = JSON.parse(e.data);
        if (m.cursor) this.cursor = m.cursor;
        if (m.type === 'hello') {
          clearTimeout(patience);
          this.open = true;
          this.since = this.since || Date.now() * 1000;
          stats.connect.add(Date.now() - began, this.tags);
          resolve(true);
        } else if (m.type === 'events') {
          for (const event of m.events) this.take(event.data, e.timestamp);
        } else if (m.type === 'gap') {
          stats.gaps.add(1, this.tags);
        }
        if (this.onother && m.type !== 'events') this.onother(m);
      };
      ws.onopen = () => {
        if (this.leaving || ws !== this.ws) ws.close();
      };
      ws.onerror = () => {
        clearTimeout(patience);
        this.fail(ws, resolve);
      };
      ws.onclose = () => {
        clearTimeout(patience);
        if (!this.leaving) this.fail(ws, resolve);
      };
    });
  }

  fail(ws, resolve) {
    if (ws !== this.ws || this.leaving) return;
    if (this.open) stats.closed.add(1, this.tags);
    this.open = false;
    this.failed = true;
    this.leaving = true;
    hangUp(ws);
    resolve(false);
  }

  take(data, arrivedMs) {
    const ms = arrivedMs - data.at_us / 1000;
    stats.received.add(1, this.tags);
    stats.latency.add(ms, this.tags);
    if (data.seq <= this.last) {
      if (data.seq <= this.seamUntil) stats.seam.add(1, this.tags);
      else stats.twice.add(1, this.tags);
      return;
    }
    if (ms > cfg.late && !this.resumed) {
      this.tooLate++;
      stats.late.add(1, this.tags);
    }
    if (this.last && data.seq > this.last + 1) this.lost += data.seq - this.last - 1;
    this.first = this.first || data.seq;
    this.last = data.seq;
  }

  leave() {
    this.leaving = true;
    this.open = false;
    hangUp(this.ws);
  }

  // judge is told the numbers of the events that were due to it.
  judge(first, last) {
    if (last >= first) {
      if (!this.first) this.lost = last - first + 1;
      else this.lost += Math.max(0, this.first - first) + Math.max(0, last - this.last);
    }
    if (!this.failed) stats.missing.add(this.lost, this.tags);
    stats.connected.add(!this.failed, this.tags);
    stats.served.add(!this.failed && this.lost === 0 && this.tooLate === 0, this.tags);
  }
}
