// Runs a k6 script under Node, to hold it to a live server without k6: not a load generator. As in k6, each VU has its
// own copy of the script's modules, `setup` hands its result on as JSON, and a threshold that is not kept ends the run
// with 99, an exception outside the iterations with 107. Beyond k6, a threshold on a step that no request was counted
// under ends it with 1 if nothing else did.
//
//   node loadtest/k6/node/run.js [--vus N] [--iterations N] [-e NAME=VALUE]... SCRIPT

import { writeFileSync } from "node:fs";
import { register } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { webcrypto } from "node:crypto";

import { registry } from "./metrics.js";
import { ScriptError, checkOptions, iterate, loadScript, summaryOf } from "./engine.js";

const THRESHOLD_MISSED = 99;
const SCRIPT_EXCEPTION = 107;
const PROVES_NOTHING = 1;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    vus: { type: "string", default: "2" },
    iterations: { type: "string", default: "10" },
    env: { type: "string", short: "e", multiple: true, default: [] },
  },
});
const own = values.env.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]);
const surroundings = { ...process.env, ...Object.fromEntries(own) };
const script = pathToFileURL(resolve(positionals[0])).href;
const { exit, stdout, stderr } = process;
const leave = exit.bind(process);

register("./loader.js", import.meta.url);
// What k6 has and old Node has not, and what Node has and k6 has not: a script that uses that must fail here.
globalThis.crypto ??= webcrypto;
globalThis.__ENV = surroundings;
for (const name of ["fetch", "URL", "URLSearchParams", "atob", "btoa", "Buffer", "TextEncoder", "TextDecoder",
  "structuredClone", "process", "setImmediate", "performance"]) {
  delete globalThis[name];
}

const begun = Date.now();
try {
  const first = await loadScript(script, 0);
  checkOptions(first);
  const thresholds = registry.thresholdsOf(first.options?.thresholds ?? {});
  const data = first.setup === undefined ? undefined : await first.setup();
  const handedOn = data === undefined ? undefined : JSON.stringify(data);
  await iterate(script, first, { vus: Number(values.vus), iterations: Number(values.iterations), handedOn });
  await first.teardown?.(handedOn && JSON.parse(handedOn));

  const outcomes = registry.judge(thresholds);
  const unseen = outcomes.filter((outcome) => outcome.tagged && outcome.samples === 0);
  const summary = summaryOf(first.options, outcomes, Date.now() - begun);
  const written = (await first.handleSummary?.(summary)) ?? {};
  for (const [where, text] of Object.entries(written)) {
    if (where === "stdout" || where === "stderr") {
      (where === "stdout" ? stdout : stderr).write(text);
    } else {
      writeFileSync(where, text);
    }
  }
  for (const { key, threshold, ok } of outcomes) {
    stderr.write(`${ok ? "kept" : "MISSED"}: ${key} ${threshold}\n`);
  }
  for (const { key } of unseen) {
    stderr.write(`no request was counted under ${key}: its threshold proves nothing\n`);
  }
  const missed = outcomes.some(({ ok }) => !ok);
  stdout.write("", () => leave(missed ? THRESHOLD_MISSED : unseen.length > 0 ? PROVES_NOTHING : 0));
} catch (error) {
  stderr.write(`${error instanceof ScriptError ? error.message : error?.stack ?? error}\n`);
  leave(SCRIPT_EXCEPTION);
}
