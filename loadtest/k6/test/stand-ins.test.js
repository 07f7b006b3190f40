// The stand-ins for k6 are honest: what must fail, fails.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { aggregate, parseKey, parseThreshold } from "../node/thresholds.js";

const RUN = fileURLToPath(new URL("../node/run.js", import.meta.url));

/** Runs a script of this text: how it ended, and what it said. */
function run(text, ...flags) {
  const folder = mkdtempSync(join(tmpdir(), "script-"));
  try {
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    writeFileSync(join(folder, "script.js"), text);
    const { status, stdout, stderr } = spawnSync(process.execPath, [RUN, ...flags, join(folder, "script.js")], {
      encoding: "utf8",
    });
    return { status, said: stdout + stderr };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const CHECKS = (result) => `
  import { check } from "k6";
  import { Counter } from "k6/metrics";
  const done = new Counter("done");
  export const options = { thresholds: { checks: ["rate==1"], "done{part:a}": ["count==4"] } };
  export function setup() { return { n: 1, lost: undefined }; }
  export default async function (data) {
    done.add(1, { part: "a" });
    check(data, { "setup arrived as JSON": (d) => d.n === 1 && !("lost" in d), "the result": () => ${result} });
  }
  export function teardown(data) { console.log("torn down", data.n); }
  export const handleSummary = (data) => ({ stdout: \`passed \${data.metrics.checks.values.passes}\\n\` });
`;

test("a run with every threshold kept ends well, after teardown and the summary", () => {
  const { status, said } = run(CHECKS(true), "--iterations", "4");
  assert.equal(status, 0, said);
  assert.match(said, /torn down 1/);
  assert.match(said, /passed 8/);
});

test("a check that fails, and a count that is missed, end it with 99", () => {
  assert.equal(run(CHECKS(false), "--iterations", "4").status, 99);
  assert.equal(run(CHECKS(true), "--iterations", "3").status, 99);
});

test("a threshold on a tag that nothing has proves nothing", () => {
  const script = `
    import { Counter } from "k6/metrics";
    new Counter("done").add(1);
    export const options = { thresholds: { "done{part:other}": ["count>=0"] } };
    export default function () {}
  `;
  const { status, said } = run(script);
  assert.equal(status, 1, said);
  assert.match(said, /proves nothing/);
});

test("what k6 would not run, does not run", () => {
  const wrong = {
    "fetch is not defined": "export default async () => {}; await fetch('http://localhost');",
    "there is no stand-in for k6/ws": "import ws from 'k6/ws'; export default () => ws;",
    "k6 has no module node:fs": "import fs from 'node:fs'; export default () => fs;",
    "does not provide an export named 'chek'": "import { chek } from 'k6'; export default () => chek;",
    "there is no metric chekcs": "export const options = { thresholds: { chekcs: ['rate>0'] } }; export default () => {};",
    "is no threshold": "import 'k6'; export const options = { thresholds: { checks: ['rate is 1'] } }; export default () => {};",
    "there is no executor": "export const options = { scenarios: { a: { executor: 'often' } } }; export default () => {};",
    "is no function": "export const options = {};",
  };
  for (const [message, script] of Object.entries(wrong)) {
    const { status, said } = run(script);
    assert.equal(status, 107, `${message}: ${said}`);
    assert.ok(said.includes(message), `${message}: ${said}`);
  }
});

test("each VU has its own modules, as in k6", () => {
  const script = `
    import exec from "k6/execution";
    import { check } from "k6";
    let mine;
    export const options = { thresholds: { checks: ["rate==1"] } };
    export default async function () {
      mine ??= exec.vu.idInTest;
      check(mine, { "no other VU's": (vu) => vu === exec.vu.idInTest && vu === __VU });
    }
  `;
  const { status, said } = run(script, "--vus", "5", "--iterations", "20");
  assert.equal(status, 0, said);
});

test("the grammar of thresholds", () => {
  assert.deepEqual(parseKey("a_b{name:x,status:200}"), { name: "a_b", tags: { name: "x", status: "200" } });
  assert.deepEqual(parseThreshold("p(99.9) <= 250.5", "trend"), { aggregation: "p(99.9)", operator: "<=", bound: 250.5 });
  assert.throws(() => parseKey("a{name}"), /no tag/);
  assert.throws(() => parseKey("a b"), /no metric/);
  assert.throws(() => parseThreshold("p(95)<1", "counter"), /cannot be asked/);
  assert.throws(() => parseThreshold("count<1", "trend"), /cannot be asked/);
});

test("aggregations", () => {
  const values = [4, 1, 3, 2];
  const all = ["sum", "avg", "min", "max", "med", "p(100)", "p(0)", "p(50)"].map((name) => aggregate(values, name));
  assert.deepEqual(all, [10, 2.5, 1, 4, 2.5, 4, 1, 2.5]);
  assert.equal(aggregate([1, 0, 1, 1], "rate"), 0.75);
  assert.equal(aggregate([], "p(95)"), 0);
});
