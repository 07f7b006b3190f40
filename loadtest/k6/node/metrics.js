// Metrics with all their samples, and thresholds on them or on those samples that have certain tags.

import { aggregate, parseKey, parseThreshold, compare } from "./thresholds.js";

class Metric {
  constructor(name, type, isTime) {
    Object.assign(this, { name, type, isTime, samples: [] });
  }

  add(value, tags = {}) {
    this.samples.push({ value: Number(value), tags });
  }

  with(tags) {
    const wanted = Object.entries(tags);
    return this.samples.filter((sample) => wanted.every(([name, value]) => String(sample.tags[name]) === value));
  }
}

class Registry {
  #metrics = new Map();

  /** The metric of this name, made where it is new. */
  metric(name, type, isTime = false) {
    const found = this.#metrics.get(name);
    if (found !== undefined) {
      if (found.type !== type || found.isTime !== isTime) {
        throw new Error(`${name} is a ${found.type} already`);
      }
      return found;
    }
    const made = new Metric(name, type, isTime);
    this.#metrics.set(name, made);
    return made;
  }

  /** The thresholds of `options`, read before anything runs: what k6 would not understand is refused. */
  thresholdsOf(options) {
    return Object.entries(options).flatMap(([key, thresholds]) => {
      const { name, tags } = parseKey(key);
      const metric = this.#metrics.get(name);
      if (metric === undefined) {
        throw new Error(`there is no metric ${name} for a threshold`);
      }
      return thresholds.map((threshold) => {
        const text = typeof threshold === "string" ? threshold : threshold.threshold;
        return { key, metric, tags, threshold: text, parsed: parseThreshold(text, metric.type) };
      });
    });
  }

  judge(thresholds) {
    return thresholds.map(({ key, metric, tags, threshold, parsed }) => {
      const samples = metric.with(tags);
      const value = aggregate(samples.map((sample) => sample.value), parsed.aggregation);
      const tagged = Object.keys(tags).length > 0;
      return { key, metric, tags, threshold, tagged, samples: samples.length, ok: compare(value, parsed) };
    });
  }

  /** As k6 tells `handleSummary`: each metric, and each part of one that has a threshold. */
  summary(stats, seconds, outcomes) {
    const all = new Map([...this.#metrics.values()].map((metric) => [metric.name, { metric, tags: {} }]));
    outcomes.forEach(({ key, metric, tags }) => all.set(key, { metric, tags }));
    const told = [...all].map(([key, { metric, tags }]) => {
      const values = metric.with(tags).map((sample) => sample.value);
      const judged = outcomes.filter((outcome) => outcome.key === key);
      return [key, {
        type: metric.type,
        contains: metric.isTime ? "time" : "default",
        values: valuesOf(metric.type, values, stats, seconds),
        ...(judged.length > 0 && {
          thresholds: Object.fromEntries(judged.map(({ threshold, ok }) => [threshold, { ok }])),
        }),
      }];
    });
    return Object.fromEntries(told);
  }
}

function valuesOf(type, values, stats, seconds) {
  const of = (aggregation) => aggregate(values, aggregation);
  switch (type) {
    case "counter":
      return { count: of("sum"), rate: of("sum") / seconds };
    case "rate":
      return { rate: of("rate"), passes: of("sum"), fails: values.length - of("sum") };
    case "gauge":
      return { value: of("value") };
    default:
      return Object.fromEntries(stats.map((stat) => [stat, stat === "count" ? values.length : of(stat)]));
  }
}

/** The metrics of this run. */
export const registry = new Registry();
