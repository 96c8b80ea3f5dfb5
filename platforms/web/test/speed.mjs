// Tokens a second in the browser beside the native program: speed.mjs PACKAGE MODELS RUNNEL TOOLS MODEL.rnl [TOKENS]
// The medians of three runs: a prompt of 128 tokens, then TOKENS more, one by one (64).
import { basename, dirname, resolve } from 'node:path';
import { inPage, native, rest } from './harness.mjs';

const [model, tokens = '64'] = rest;
const count = Number(tokens);

// In the page: the prompt in one call, then the greedy continuation.
async function measure({ address, threads, count }) {
  const { Model, Runnel } = await import('/runnel/runnel.js');
  const runnel = await Runnel.load({ threads });
  const begin = performance.now();
  const model = await Model.fromFile(address, { runnel });
  const load = performance.now() - begin;
  const session = await model.session({ context: 1024 });
  const ids = Int32Array.from({ length: 128 }, (_, i) => 10 + ((i * 7919) % 5000));
  const runs = [];
  for (let i = 0; i < 3; ++i) {
    await session.reset();
    let t = performance.now();
    await session.run({ ids });
    const prefill = (128 * 1000) / (performance.now() - t);
    for await (const _ of session.generate(Int32Array.of(100), { maxTokens: 1, ignoreEnd: true }));
    t = performance.now();
    for await (const _ of session.generate(null, { maxTokens: count, ignoreEnd: true }));
    runs.push({ prefill, decode: (count * 1000) / (performance.now() - t) });
  }
  runnel.close();
  const median = (key) => runs.map((r) => r[key]).sort((a, b) => a - b)[1];
  return { prefill: median('prefill'), decode: median('decode'), load, threads: runnel.threads };
}

const rows = [];
for (const threads of [1, 2]) {
  const flags = ['bench', model, '--prompt', '128', '--gen', tokens, '--threads', String(threads), '--context', '1024', '--repeat', '3', '--json'];
  const bench = JSON.parse(native('', ...flags));
  rows.push({ where: 'native', threads, prefill: bench.prefill_tokens_per_s, decode: bench.decode_tokens_per_s, load: bench.load_ms });
  const folder = dirname(resolve(model));
  const page = await inPage(true, async (p, address) => {
    await p.goto(`${address}texts/mixed.txt`);
    return p.evaluate(measure, { address: `/measured/${basename(model)}`, threads, count });
  }, { '/measured/': folder });
  rows.push({ where: 'browser', ...page });
}
console.log('where     threads  prefill tok/s  decode tok/s  load ms');
for (const r of rows)
  console.log(`${r.where.padEnd(9)} ${String(r.threads).padStart(7)}  ${r.prefill.toFixed(1).padStart(13)}  ${r.decode.toFixed(1).padStart(12)}  ${r.load.toFixed(0).padStart(7)}`);
for (const i of [0, 2])
  console.log(`${rows[i].threads} thread${i ? 's' : ''}: decode ${(rows[i + 1].decode / rows[i].decode).toFixed(2)} of native, prefill ${(rows[i + 1].prefill / rows[i].prefill).toFixed(2)}`);
