// Stand-in for `k6/timers`.

const { setTimeout } = globalThis;

export { setTimeout };
