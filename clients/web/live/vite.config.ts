import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  // Relative addresses: the page may be served under any path.
  base: "./",
  resolve: {
    alias: { "@contract": fileURLToPath(new URL("../../../generated/web", import.meta.url)) },
    // The generated files lie outside this folder; their imports of the runtime are answered from here.
    dedupe: ["@bufbuild/protobuf"],
  },
  // The polyfill is for browsers that cannot stream a response anyway.
  build: { modulePreload: { polyfill: false }, assetsInlineLimit: 0, chunkSizeWarningLimit: 1000 },
});
