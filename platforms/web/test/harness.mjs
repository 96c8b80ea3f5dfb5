// What the tests share: a browser with the demo's server, tensors of .safetensors files, the native program.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { demoFolders, serve } from '../demo/serve.mjs';

export const [PACKAGE, MODELS, RUNNEL, TOOLS, ...rest] = process.argv.slice(2);
export const goldens = new URL('../../../tests/goldens/', import.meta.url);

/** What the native program prints. */
export function native(input, ...args) {
  return execFileSync(RUNNEL, args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'], input });
}

const arrays = { F32: Float32Array, I32: Int32Array, I64: BigInt64Array, U8: Uint8Array };
export function readSafetensors(path) {
  const file = readFileSync(path);
  const size = Number(file.readBigUInt64LE(0));
  const out = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(JSON.parse(file.subarray(8, 8 + size)))) {
    if (name === '__metadata__') continue;
    const bytes = Uint8Array.from(file.subarray(8 + size + begin, 8 + size + end));
    out[name] = { shape, data: new arrays[dtype](bytes.buffer) };
  }
  return out;
}

/** f(page) with a page of the demo's server, with or without the headers that lend it shared memory. */
export async function inPage(isolated, f, folders = {}) {
  const { chromium } = createRequire(`${TOOLS}/`)('playwright-core');
  const server = await serve({ ...demoFolders(PACKAGE, MODELS), ...folders }, { isolated });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  try {
    const page = await browser.newPage({ viewport: { width: 960, height: 1180 }, deviceScaleFactor: 1 });
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    return await f(page, `http://localhost:${server.address().port}/`, problems);
  } finally {
    await browser.close();
    server.close();
  }
}

let passed = 0;
let failed = 0;
export async function test(name, f) {
  try {
    await f();
    ++passed;
    console.log(`ok    ${name}`);
  } catch (error) {
    ++failed;
    console.log(`FAIL  ${name}: ${error.message}`);
  }
}
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}
