// k6's thresholds: which metric, which of its samples, and the comparison.

const KEY = /^([A-Za-z_][A-Za-z0-9_]*)(?:\{(.*)\})?$/;
const PERCENTILE = /p\(\s*\d+(?:\.\d+)?\s*\)/.source;
const OPERATOR = />=|<=|>|<|===|==|!=/.source;
const THRESHOLD = new RegExp(
  `^(count|rate|value|avg|min|max|med|${PERCENTILE})\\s*(${OPERATOR})\\s*(-?\\d+(?:\\.\\d+)?)$`,
);

/** What each type of metric can be asked for. */
const AGGREGATIONS = {
  counter: /^(count|rate)$/,
  gauge: /^value$/,
  rate: /^rate$/,
  trend: /^(avg|min|max|med|p\(.*\))$/,
};

/** `http_req_duration{name:new_order,status:201}`: the metric's name, and the tags that its samples must have. */
export function parseKey(key) {
  const [, name, inner] = KEY.exec(key) ?? [];
  if (name === undefined) {
    throw new Error(`${key} names no metric`);
  }
  const pairs = inner === undefined ? [] : inner.split(",").map((pair) => {
    const at = pair.indexOf(":");
    if (at < 1 || at === pair.length - 1) {
      throw new Error(`${pair} in ${key} is no tag and value`);
    }
    return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  });
  return { name, tags: Object.fromEntries(pairs) };
}

/** `p(95)<200`, for a metric of this type. */
export function parseThreshold(text, type) {
  const [, aggregation, operator, number] = THRESHOLD.exec(text.trim()) ?? [];
  if (aggregation === undefined) {
    throw new Error(`${text} is no threshold`);
  }
  if (!AGGREGATIONS[type].test(aggregation)) {
    throw new Error(`${text} cannot be asked of a ${type}`);
  }
  const compared = type === "counter" && aggregation === "count" ? "sum" : aggregation;
  return { aggregation: compared.replace(/\s/g, ""), operator, bound: Number(number) };
}

export function compare(value, { operator, bound }) {
  switch (operator) {
    case ">": return value > bound;
    case ">=": return value >= bound;
    case "<": return value < bound;
    case "<=": return value <= bound;
    case "!=": return value !== bound;
    default: return value === bound;
  }
}

/** Nothing at all counts as 0, as in k6. Percentiles lie on the line between the two samples that are next to them. */
export function aggregate(values, aggregation) {
  const sum = values.reduce((total, value) => total + value, 0);
  const sorted = [...values].sort((one, other) => one - other);
  const percentile = (share) => {
    const at = share * (sorted.length - 1);
    const below = Math.floor(at);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
  };
  if (values.length === 0) {
    return 0;
  }
  switch (aggregation) {
    case "sum": return sum;
    case "rate": return sum / values.length;
    case "avg": return sum / values.length;
    case "value": return values[values.length - 1];
    case "min": return sorted[0];
    case "max": return sorted[sorted.length - 1];
    case "med": return percentile(0.5);
    default: return percentile(Number(aggregation.slice(2, -1)) / 100);
  }
}
