// Stand-in for `k6/metrics`. VUs that make a metric of one name share it.

import { registry } from "../metrics.js";

class OfType {
  #metric;

  constructor(name, type, isTime) {
    this.name = name;
    this.#metric = registry.metric(name, type, isTime);
  }

  add(value, tags) {
    this.#metric.add(value, tags);
  }
}

export class Counter extends OfType {
  constructor(name, isTime) {
    super(name, "counter", isTime);
  }
}

export class Trend extends OfType {
  constructor(name, isTime) {
    super(name, "trend", isTime);
  }
}
