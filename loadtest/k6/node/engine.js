// VUs and their iterations, and what is known about them while they run.

import { AsyncLocalStorage } from "node:async_hooks";

import { registry } from "./metrics.js";

/** A script that k6 would refuse. */
export class ScriptError extends Error {}

/** Which VU the code that runs belongs to: `{ vu, iteration, scenario, inTest }`. */
export const current = new AsyncLocalStorage();

const done = registry.metric("iterations", "counter");
const lasted = registry.metric("iteration_duration", "trend", true);
// Stays empty: here nothing is due at a time.
registry.metric("dropped_iterations", "counter");

/** What each executor of k6 cannot do without, as far as the scripts use them. */
const EXECUTORS = {
  "constant-vus": ["duration"],
  "constant-arrival-rate": ["rate", "duration", "preAllocatedVUs"],
  "per-vu-iterations": [],
  "shared-iterations": [],
};

for (const [name, member] of [["__VU", "vu"], ["__ITER", "iteration"]]) {
  Object.defineProperty(globalThis, name, { get: () => current.getStore()?.[member] ?? 0 });
}

/** The script's module as the VU of this number has it; 0 is that of `setup`. */
export function loadScript(script, vu) {
  return current.run({ vu, iteration: 0 }, () => import(`${script}?vu=${vu}`));
}

/** Scenarios by name; a script without any has one of its default function. */
function scenariosOf(module) {
  return module.options?.scenarios ?? { default: { executor: "shared-iterations" } };
}

export function checkOptions(module) {
  for (const [name, scenario] of Object.entries(scenariosOf(module))) {
    const needed = EXECUTORS[scenario.executor];
    if (needed === undefined) {
      throw new ScriptError(`${name}: there is no executor ${scenario.executor}`);
    }
    const missing = needed.filter((setting) => scenario[setting] === undefined);
    if (missing.length > 0) {
      throw new ScriptError(`${name}: ${scenario.executor} needs ${missing.join(", ")}`);
    }
    if (typeof module[scenario.exec ?? "default"] !== "function") {
      throw new ScriptError(`${name}: ${scenario.exec ?? "default"} is no function that the script exports`);
    }
  }
}

/** Each scenario's function `iterations` times, by `vus` VUs that take the next one as soon as they are free. */
export async function iterate(script, first, { vus, iterations, handedOn }) {
  for (const [scenario, settings] of Object.entries(scenariosOf(first))) {
    let next = 0;
    const user = async (vu) => {
      const module = await loadScript(script, vu);
      const data = handedOn && JSON.parse(handedOn);
      for (let iteration = 0; next < iterations; iteration += 1) {
        const inTest = next;
        next += 1;
        const begun = Date.now();
        try {
          await current.run({ vu, iteration, scenario, inTest }, () => module[settings.exec ?? "default"](data));
        } catch (error) {
          // As k6: said, and the next iteration follows.
          console.error(error);
        }
        done.add(1, { scenario });
        lasted.add(Date.now() - begun, { scenario });
      }
    };
    await Promise.all(Array.from({ length: vus }, (_, at) => user(at + 1)));
  }
}

/** What `handleSummary` is given. */
export function summaryOf(options, outcomes, testRunDurationMs) {
  const stats = options?.summaryTrendStats ?? ["avg", "min", "med", "max", "p(90)", "p(95)"];
  const metrics = registry.summary(stats, testRunDurationMs / 1000, outcomes);
  return { metrics, options: { summaryTrendStats: stats }, state: { testRunDurationMs } };
}
