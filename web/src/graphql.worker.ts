// A file of our own, as Vite's dev server prepares the CommonJS parts of packages for our files only.
import 'monaco-graphql/esm/graphql.worker.js';
