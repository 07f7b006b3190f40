// Stand-in for `k6/execution`: as much as the scripts use.

import { current } from "../engine.js";

function store() {
  const found = current.getStore();
  if (found?.scenario === undefined) {
    throw new Error("k6/execution is asked outside an iteration");
  }
  return found;
}

export default {
  vu: {
    get idInTest() {
      return store().vu;
    },
  },
  scenario: {
    get iterationInTest() {
      return store().inTest;
    },
  },
};
