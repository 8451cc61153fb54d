import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/support/environments.ts",
    // Processes, terminals and real servers are started in earnest, on whatever machine this is.
    pool: "forks",
    // Most of them wait for processes: two at a time even where one core is all there is.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
