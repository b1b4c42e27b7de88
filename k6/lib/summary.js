import { cfg } from './config.js';

// summary writes everything that was measured, thresholds too, to the file that
// perf/load makes its report of. compare adds conditions on several metrics at once,
// as [text, ok].
export function summary(compare) {
  return (data) => {
    data.compared = compare ? compare(data.metrics).map(([text, ok]) => ({ text, ok })) : [];
    const out = { stdout: lines(data) };
    if (cfg.summary) out[cfg.summary] = JSON.stringify(data);
    return out;
  };
}

function lines(data) {
  const out = [];
  for (const [name, m] of Object.entries(data.metrics).sort()) {
    for (const [condition, t] of Object.entries(m.thresholds || {})) {
      out.push(`${t.ok ? 'ok    ' : 'FAILED'} ${name}: ${condition}`);
    }
  }
  for (const c of data.compared) out.push(`${c.ok ? 'ok    ' : 'FAILED'} ${c.text}`);
  return out.join('\n') + '\n';
}
