import { defineConfig } from 'vite';

export default defineConfig({
  // The server answers /graphiql with index.html and has the rest below it.
  base: '/graphiql/',
  build: {
    target: 'es2022',
    // Monaco is large and comes from this machine.
    chunkSizeWarningLimit: 5000,
    // All browsers of the target preload modules by themselves.
    modulePreload: { polyfill: false },
    // What the licences of the bundled packages ask for travels along.
    license: { fileName: 'assets/licenses.md' },
    rolldownOptions: {
      onLog(level, log, report) {
        // 'use client' of packages means nothing here.
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') report(level, log);
      },
    },
  },
  worker: { format: 'es' },
  // `npm run dev` beside a running server.
  server: {
    fs: { allow: ['..'] },
    proxy: { '/graphql': { target: 'http://127.0.0.1:4000', ws: true } },
  },
});
