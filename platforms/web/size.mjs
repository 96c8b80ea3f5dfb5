// Bytes of what a page downloads: node platforms/web/size.mjs PACKAGE
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';

const [folder] = process.argv.slice(2);
const names = (path) => readdirSync(join(folder, path)).filter((name) => /\.(js|wasm)$/.test(name)).map((name) => path + name);
const common = names('');
const isThreaded = (name) => name.includes('threads');
console.log('module           raw bytes     gzip   brotli');
for (const [title, wanted] of [['with threads', isThreaded], ['without threads', (name) => !isThreaded(name)]]) {
  const files = [...common, ...names('wasm/').filter(wanted)].map((name) => readFileSync(join(folder, name)));
  const sum = (f) => files.reduce((bytes, file) => bytes + f(file).length, 0);
  const columns = [(file) => file, (file) => gzipSync(file, { level: 9 }), brotliCompressSync].map((f) => String(sum(f)).padStart(9));
  console.log(title.padEnd(16) + columns.join(''));
}
