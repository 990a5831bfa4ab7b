import { defineConfig, mergeConfig } from "vite";
import page from "./vite.config";

// The tests run on Node's own test runner, which reads no TypeScript: they are bundled first.
export default mergeConfig(
  page,
  defineConfig({
    ssr: { noExternal: true },
    build: { ssr: "test/all.test.ts", outDir: ".test", emptyOutDir: true, copyPublicDir: false, minify: false },
  }),
);
