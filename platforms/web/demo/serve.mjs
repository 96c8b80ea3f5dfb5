// Serves the demo: node platforms/web/demo/serve.mjs PACKAGE MODELS [--port N] [--without-isolation]
//   PACKAGE: the built package, at /runnel/; MODELS: a folder with .rnl files, at /models/
// Texts of examples/typeseg are at /texts/.
// The two headers isolate the page from other origins, which browsers ask for before they lend it shared memory and with
// it threads. --without-isolation leaves them out.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const types = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css',
  '.wasm': 'application/wasm', '.txt': 'text/plain; charset=utf-8',
};

const beside = (path) => fileURLToPath(new URL(path, import.meta.url));
export const demoFolders = (runnel, models) => ({ '/': beside('.'), '/runnel/': runnel, '/models/': models, '/texts/': beside('../../../examples/typeseg') });

/** folders: from a path's beginning to a folder. Gives the server once it listens. */
export function serve(folders, { port = 0, isolated = true } = {}) {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    const begin = Object.keys(folders).filter((p) => path.startsWith(p)).sort((a, b) => b.length - a.length)[0];
    const file = begin && join(folders[begin], path.endsWith('/') ? path.slice(begin.length) + 'index.html' : path.slice(begin.length));
    const info = file && (await stat(file).catch(() => null));
    if (!info?.isFile()) return response.writeHead(404).end('not found\n');
    response.writeHead(200, {
      'Content-Type': types[extname(file)] ?? 'application/octet-stream',
      'Content-Length': info.size,
      'Cache-Control': 'no-cache',
      ...(isolated && { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }),
    });
    createReadStream(file).pipe(response);
  });
  return new Promise((done) => server.listen(port, '127.0.0.1', () => done(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = process.argv.slice(2);
  const port = options.includes('--port') ? Number(options[options.indexOf('--port') + 1]) : 8080;
  const [runnel, models] = options;
  if (!models || models.startsWith('--')) {
    console.error('usage: node serve.mjs PACKAGE MODELS [--port N] [--without-isolation]');
    process.exit(2);
  }
  const server = await serve(demoFolders(resolve(runnel), resolve(models)), { port, isolated: !options.includes('--without-isolation') });
  console.log(`http://localhost:${server.address().port}/`);
}
