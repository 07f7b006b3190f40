// Leads `k6` and `k6/…` to the stand-ins, and gives each VU its own copy of the script and of what it imports: the
// VU's number in the query of a module's address is handed on to its imports. Stand-ins are shared, as k6 itself is.

const STAND_INS = ["k6", "k6/execution", "k6/http", "k6/metrics", "k6/timers"];

export async function resolve(specifier, context, next) {
  if (specifier === "k6" || specifier.startsWith("k6/")) {
    if (!STAND_INS.includes(specifier)) {
      throw new Error(`there is no stand-in for ${specifier}`);
    }
    const file = specifier === "k6" ? "k6" : specifier.slice("k6/".length);
    return { url: new URL(`./modules/${file}.js`, import.meta.url).href, shortCircuit: true };
  }
  const vu = /\?vu=\d+$/.exec(context.parentURL ?? "");
  if (vu !== null) {
    if (!specifier.startsWith(".")) {
      throw new Error(`k6 has no module ${specifier}`);
    }
    return { url: new URL(specifier, context.parentURL).href + vu[0], format: "module", shortCircuit: true };
  }
  return next(specifier, context);
}
