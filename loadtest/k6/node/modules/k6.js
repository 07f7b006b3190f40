// Stand-in for `k6`: as much as the scripts use.

import { registry } from "../metrics.js";

const checks = registry.metric("checks", "rate");

export function check(value, sets, tags = {}) {
  const results = Object.entries(sets).map(([name, holds]) => {
    const held = Boolean(holds(value));
    checks.add(held, { ...tags, check: name });
    if (!held) {
      console.error(`check failed: ${name}`);
    }
    return held;
  });
  return results.every(Boolean);
}
