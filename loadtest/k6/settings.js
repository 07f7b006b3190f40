// What the two scripts have in common: limits by step, and the table at the end. Nothing of k6 is imported.

/** The columns of the table, as k6 is asked for them. */
export const TREND_STATS = ["count", "med", "p(95)", "p(99)", "max"];

/**
 * Limits in milliseconds on the 95th and 99th percentile of each step, times `factor`.
 * @param {Record<string, [number, number]>} limits
 * @param {number} factor
 */
export function latencyThresholds(limits, factor) {
  /** @type {Record<string, string[]>} */
  const thresholds = {};
  for (const [name, [p95, p99]] of Object.entries(limits)) {
    thresholds[`http_req_duration{name:${name}}`] = [`p(95)<${p95 * factor}`, `p(99)<${p99 * factor}`];
  }
  return thresholds;
}

/**
 * A number from the environment.
 * @param {string | undefined} text
 * @param {number} otherwise
 */
export function number(text, otherwise) {
  const value = text === undefined || text === "" ? otherwise : Number(text);
  if (!Number.isFinite(value) || value < 0) {
    throw new Error(`${text} is no number`);
  }
  return value;
}

/**
 * What k6 gives `handleSummary`.
 * @typedef {{ type: string, values: Record<string, number>, thresholds?: Record<string, { ok: boolean }> }} Metric
 * @typedef {{ metrics: Record<string, Metric> }} Summary
 */

/**
 * A line for each step with a limit, one for each number that counts, and the thresholds that were not kept.
 * @param {Summary} data
 * @param {string[]} numbers metrics that are shown by their value alone
 */
function table(data, numbers) {
  const row = (/** @type {(string | number)[]} */ cells) =>
    cells.map((cell, at) => (at === 0 ? String(cell).padEnd(26) : String(cell).padStart(10))).join("");
  const milliseconds = (/** @type {number | undefined} */ value) => (value === undefined ? "-" : value.toFixed(1));
  const lines = [row(["step", "requests", "p50 ms", "p95 ms", "p99 ms", "max ms", "limits"])];
  const failed = [];
  for (const [name, metric] of Object.entries(data.metrics)) {
    const missed = Object.entries(metric.thresholds ?? {}).filter(([, { ok }]) => !ok);
    failed.push(...missed.map(([threshold]) => `${name}: ${threshold}`));
    const step = /^http_req_duration\{name:(.+)\}$/.exec(name);
    if (step !== null) {
      const cells = TREND_STATS.slice(1).map((stat) => milliseconds(metric.values[stat]));
      lines.push(row([step[1], metric.values.count ?? "-", ...cells, missed.length === 0 ? "kept" : "missed"]));
    }
  }
  for (const name of numbers) {
    const { count, rate } = data.metrics[name]?.values ?? {};
    const shown = [count === undefined ? "" : `${count}`, rate === undefined ? "" : rate.toFixed(4)];
    lines.push(row([name, shown[0] || "-", shown[1] || "-"]));
  }
  return [...lines, ...failed.map((what) => `not kept: ${what}`), ""].join("\n");
}

/**
 * What `handleSummary` has written: the table, and all that k6 knows to `file` if there is one.
 * @param {Summary} data
 * @param {string[]} numbers
 * @param {string | undefined} file
 */
export function written(data, numbers, file) {
  /** @type {Record<string, string>} */
  const texts = { stdout: table(data, numbers) };
  if (file) {
    texts[file] = JSON.stringify(data);
  }
  return texts;
}
