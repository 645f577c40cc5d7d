// The import guard: data flows one way through src/, in the order of flow.json.
const FLOW = require('./flow.json');

const upward = FLOW.slice(0, -1).map((folder, i) => ({
  name: `${folder}-looks-up-only`,
  comment: `src/${folder} may import from folders listed above it, never from those below.`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: { path: `^src/(${FLOW.slice(i + 1).join('|')})/` },
}));

const tests = '\\.test\\.ts$';

module.exports = {
  forbidden: [
    ...upward,
    {
      name: 'through-index-only',
      severity: 'error',
      from: { path: '^src/([^/]+)/', pathNot: ['^src/start/', tests] },
      to: { path: '^src/[^/]+/', pathNot: ['^src/$1/', '^src/[^/]+/index\\.ts$'] },
    },
    {
      name: 'adapters-are-wired-in-start',
      severity: 'error',
      from: { pathNot: ['^src/start/', '/adapters/', tests, '^test/'] },
      to: { path: '/adapters/' },
    },
    {
      name: 'base-and-bytes-do-no-io',
      severity: 'error',
      from: { path: '^src/(base|bytes)/', pathNot: tests },
      to: {
        dependencyTypes: ['core'],
        pathNot: '^(node:)?(assert|assert/strict|buffer|crypto|util|zlib)$',
      },
    },
    {
      name: 'protocols-stay-apart',
      severity: 'error',
      from: { path: '^src/serve/([^/]+)/' },
      to: { path: '^src/serve/[^/]+/', pathNot: '^src/serve/$1/' },
    },
    {
      name: 'agent-stays-small',
      severity: 'error',
      from: { path: '^src/start/agent' },
      to: {
        path: '^src/(keep|publish|run|serve)/',
        pathNot: '^src/run/slots/',
        reachable: true,
      },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-dead-files',
      severity: 'error',
      from: { orphan: true, pathNot: [tests, '^src/start/'] },
      to: {},
    },
    {
      name: 'src-never-imports-test',
      severity: 'error',
      from: { path: '^src/', pathNot: tests },
      to: { path: ['^test/', tests] },
    },
    {
      name: 'runtime-needs-no-dev-dependency',
      severity: 'error',
      from: { path: '^src/', pathNot: tests },
      to: { dependencyTypes: ['npm-dev'] },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
