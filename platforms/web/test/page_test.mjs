// The package in headless Chromium, with threads and without: page_test.mjs PACKAGE MODELS RUNNEL TOOLS
import assert from 'node:assert/strict';
import { MODELS, finish, goldens, inPage, native, readSafetensors, test } from './harness.mjs';

const prompt = 'Once upon a time';

// Runs f in the page with `runnel`, the package, `engine`, a loaded one, and `given`.
const inEngine = (page, f, given) =>
  page.evaluate(async ([source, value]) => {
    const runnel = await import('/runnel/runnel.js');
    window.engine ??= await runnel.Runnel.load();
    return new Function(`return (${source})`)()(runnel, window.engine, value);
  }, [f.toString(), given]);

function farthest(got, want) {
  assert.equal(got.length, want.length);
  let top = 0;
  let error = 0;
  want.forEach((v, i) => ((top = Math.max(top, Math.abs(v))), (error = Math.max(error, Math.abs(v - got[i])))));
  return error / top;
}

async function numbers(page) {
  for (const model of ['llama-f32', 'qwen-f32'])
    await test(`${model}: greedy text is the native one`, async () => {
      const want = native('', 'run', `${MODELS}/${model}.rnl`, '-p', prompt, '-n', '40');
      const got = await inEngine(page, async ({ Model }, runnel, { model, prompt }) => {
        const m = await Model.fromFile(`/models/${model}.rnl`, { runnel });
        let text = '';
        for await (const part of (await m.session()).generate(prompt, { maxTokens: 40 })) text += part;
        await m.close();
        return text;
      }, { model, prompt });
      assert.equal(got.trimEnd(), want.trimEnd());
      assert.ok(got.length > 20);
    });
  for (const [model, golden, input, output] of [
    ['tiny_mamba2-f32', 'tiny_mamba2', 'ids', 'logits'],
    ['typeseg-golden', 'typeseg', 'bytes', 'logits'],
  ])
    await test(`${model}: outputs are the original's`, async () => {
      const file = (name) => readSafetensors(new URL(`${golden}/${name}.safetensors`, goldens));
      const io = golden === 'typeseg' ? file('io') : { ...file('ids'), ...file('logits') };
      const [given, want] = [input, output].map((name) => io[name] ?? io[`${name}.97`]);
      const got = await inEngine(page, async ({ Model }, runnel, { model, input, output, data }) => {
        const m = await Model.fromFile(`/models/${model}.rnl`, { runnel });
        const session = await m.session({ rows: 8 });
        const tensors = { [input]: Int32Array.from(data) };
        if (m.programs[0].rows) tensors.rows = Int32Array.from(data, (_, i) => i);
        const out = (await session.run(tensors))[output];
        await m.close();
        return { dims: out.dims, data: [...out.data] };
      }, { model, input, output, data: [...given.data].map(Number) });
      assert.deepEqual(got.dims, want.shape);
      assert.ok(farthest(got.data, want.data) < 1e-4);
    });
  await test('llama-q4: logits are near the native ones', async () => {
    native('', 'eval', `${MODELS}/llama-q4.rnl`, '--in', new URL('tiny_llama/ids.safetensors', goldens).pathname, '--out', `${MODELS}/native.safetensors`);
    const { logits } = readSafetensors(`${MODELS}/native.safetensors`);
    const ids = [...readSafetensors(new URL('tiny_llama/ids.safetensors', goldens)).ids.data].map(Number);
    const got = await inEngine(page, async ({ Model }, runnel, ids) => {
      const m = await Model.fromFile('/models/llama-q4.rnl', { runnel });
      const { logits } = await (await m.session()).run({ ids: Int32Array.from(ids), rows: Int32Array.from(ids, (_, i) => i) });
      await m.close();
      return [...logits.data];
    }, ids);
    assert.ok(farthest(got, logits.data) < 2e-3, String(farthest(got, logits.data)));
  });
}

async function files(page) {
  await test('a model comes from an address, a Blob and an ArrayBuffer, with progress', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const response = await fetch('/models/llama-f32.rnl');
      const blob = await response.blob();
      const out = [];
      for (const source of ['/models/llama-f32.rnl', blob, await blob.arrayBuffer()]) {
        let last;
        const model = await Model.fromFile(source, { runnel, onProgress: (done, total) => (last = done === total) });
        await model.verify();
        out.push([model.info.fileBytes === blob.size, last, model.info.vocabulary, model.info.hasChat]);
        await model.close();
      }
      return out;
    });
    assert.deepEqual(got, Array(3).fill([true, true, 613, 1]));
  });
  await test('what is no model, is not there or is closed is refused with a code', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const code = (promise) => promise.then(() => 'none', (error) => `${error.name} ${error.code}`);
      const out = [await code(Model.fromFile(new Blob(['not a model at all, but a text']), { runnel })), await code(Model.fromFile('/models/none.rnl', { runnel }))];
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const session = await model.session();
      out.push(await code(session.run({ nonsense: new Float32Array(1) })));
      out.push(await code(session.generate('x', { maxTockens: 1 }).next()).then((text) => text.split(' ')[0]));
      await model.close();
      out.push(await code(session.position()), await code(model.session()));
      return out;
    });
    assert.deepEqual(got, ['RunnelError invalid_model', 'RunnelError not_found', 'RunnelError invalid_argument', 'TypeError', 'RunnelError invalid_argument', 'RunnelError invalid_argument']);
  });
  await test('texts become ids and texts again; plans and memory are stated', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/qwen-f32.rnl', { runnel });
      const ids = await model.tokenize('Naïve café – 1234', { plain: true });
      const text = await model.detokenize(ids);
      const plan = await model.plan({ context: 512 });
      const session = await model.session({ context: 512 });
      const memory = await session.memory();
      await model.close();
      return { text, ids: ids.length, isPlan: plan.state === memory.state && plan.arena === memory.arena && plan.state > 0 };
    });
    assert.equal(got.text, 'Naïve café – 1234');
    assert.ok(got.ids > 3 && got.isPlan);
  });
}

async function streams(page) {
  await test('the page goes on while the worker computes; an abort stops it; the stream goes on', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const session = await model.session({ context: 8192 });
      const abort = new AbortController();
      let ticks = 0;
      const timer = setInterval(() => ++ticks, 5);
      setTimeout(() => abort.abort(new Error('enough')), 250);
      let tokens = 0;
      let reason;
      try {
        for await (const text of session.generate('Once', { maxTokens: 8000, ignoreEnd: true, signal: abort.signal })) tokens += text.length >= 0;
      } catch (error) {
        reason = error.message;
      }
      clearInterval(timer);
      const before = await session.position();
      const again = [];
      for await (const text of session.generate(null, { maxTokens: 3, ignoreEnd: true })) again.push(text);
      const after = await session.position();
      await model.close();
      return { ticks, tokens, reason, before, after, again: again.length };
    });
    assert.equal(got.reason, 'enough');
    assert.ok(got.ticks > 10, `${got.ticks} ticks`);
    assert.ok(got.tokens > 5 && got.before < 8000 && got.after === got.before + 3, JSON.stringify(got));
    assert.equal(got.again, 3);
  });
  await test('a long prompt is cancelled between its passes', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const session = await model.session({ context: 8192, chunk: 16 });
      const abort = new AbortController();
      const ids = Int32Array.from({ length: 8000 }, (_, i) => 5 + (i % 500));
      const answer = session.run({ ids }, { signal: abort.signal, onProgress: (done) => done > 100 && abort.abort(new Error('enough')) });
      const reason = await answer.then(() => 'none', (error) => error.message);
      const position = await session.position();
      await model.close();
      return { reason, position };
    });
    assert.equal(got.reason, 'enough');
    assert.ok(got.position > 100 && got.position < 8000, `${got.position} tokens`);
  });
  await test('snapshot, restore, rollback and fork give the same text', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/qwen-f32.rnl', { runnel });
      const more = async (session) => {
        let text = '';
        for await (const part of session.generate(null, { maxTokens: 24, ignoreEnd: true, temperature: 0.8, seed: 7 })) text += part;
        return text;
      };
      const session = await model.session();
      for await (const _ of session.generate('Once upon a time', { maxTokens: 4, ignoreEnd: true, temperature: 0.8, seed: 7 }));
      const saved = await session.snapshot();
      const fork = await session.fork();
      const texts = [await more(session), await more(fork)];
      await session.restore(saved);
      texts.push(await more(session));
      const other = await model.session();
      await other.restore(saved);
      texts.push(await more(other));
      saved[saved.length - 100] ^= 1;
      const damaged = await other.restore(saved).then(() => 'none', (error) => error.code);
      const at = await session.position();
      await session.rollback(5);
      const back = at - (await session.position());
      await model.close();
      return { texts, damaged, back };
    });
    assert.ok(got.texts[0].length > 10);
    assert.deepEqual(got.texts, Array(4).fill(got.texts[0]));
    assert.equal(got.damaged, 'state_mismatch');
    assert.equal(got.back, 5);
  });
  await test('a session that is closed while it computes ends its answer', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const session = await model.session({ context: 8192 });
      let tokens = 0;
      let code = 'none';
      try {
        for await (const _ of session.generate('Once', { maxTokens: 8000, ignoreEnd: true })) if (++tokens === 3) session.close();
      } catch (error) {
        code = error.code;
      }
      // Leaving the loop stops an answer too.
      const other = await model.session({ context: 8192 });
      for await (const _ of other.generate('Once', { maxTokens: 8000, ignoreEnd: true })) break;
      const position = await other.position();
      await model.close();
      return { tokens, code, position };
    });
    assert.equal(got.code, 'cancelled');
    assert.ok(got.tokens < 8000 && got.position < 8000, JSON.stringify(got));
  });
}

async function texts(page) {
  await test('a chat is the native one and keeps what it holds', async () => {
    const want = native('Hello\n', 'chat', `${MODELS}/llama-f32.rnl`, '-n', '12', '--system', 'Be brief.');
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const session = await model.session();
      const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello' }];
      const answers = [];
      let kept;
      for (const question of [null, 'And more?']) {
        if (question) messages.push({ role: 'assistant', content: answers[0] }, { role: 'user', content: question });
        let answer = '';
        const stream = session.chat(messages, { maxTokens: 12 });
        for (let part; !(part = await stream.next()).done || ((kept = part.value.kept), false); ) answer += part.value;
        answers.push(answer);
      }
      await model.close();
      return { answers, kept };
    });
    assert.equal(got.answers[0].trimEnd(), want.trimEnd());
    assert.ok(got.kept > 10, `${got.kept} tokens kept`);
  });
  await test('a grammar, stop texts and biases are followed', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const session = await model.session();
      const text = async (prompt, options) => {
        let all = '';
        for await (const part of session.generate(prompt, options)) all += part;
        return all;
      };
      const grammar = await model.grammar('root ::= "(" [0-9]{3} ")"');
      const number = await text('A number: ', { grammar });
      await session.reset();
      const whole = await text('Once', { maxTokens: 30, ignoreEnd: true });
      const stop = whole.slice(8, 12);
      await session.reset();
      const cut = await text('Once', { maxTokens: 30, ignoreEnd: true, stop: [stop] });
      await session.reset();
      const [first] = await model.tokenize(whole, { plain: true });
      const other = await text('Once', { maxTokens: 30, ignoreEnd: true, bias: { [first]: -Infinity } });
      await model.close();
      return { number, cut, expected: whole.slice(0, whole.indexOf(stop)), whole, other };
    });
    assert.match(got.number, /^\(\d{3}\)$/);
    assert.equal(got.cut, got.expected);
    assert.notEqual(got.other, got.whole);
  });
  await test('sessions are opened and closed many times in the same memory', async () => {
    const got = await inEngine(page, async ({ Model }, runnel) => {
      const model = await Model.fromFile('/models/llama-f32.rnl', { runnel });
      const { state, arena } = await model.plan({ context: 8192 });
      // Without closing they would need more than the module can have.
      const times = Math.ceil(4.5e9 / (state + arena));
      for (let i = 0; i < times; ++i) await (await model.session({ context: 8192 })).close();
      await model.close();
      return times;
    });
    assert.ok(got > 10, `${got} times`);
  });
}

for (const isolated of [true, false]) {
  console.log(isolated ? '-- an isolated page: with threads' : '-- a page without shared memory: one thread');
  await inPage(isolated, async (page, address, problems) => {
    await page.goto(`${address}texts/mixed.txt`);
    await test('the page chooses the module', async () => {
      const got = await inEngine(page, (_, { isThreaded, threads, version }) => ({ isThreaded, threads, version }));
      assert.equal(got.isThreaded, isolated);
      assert.ok(isolated ? got.threads > 1 : got.threads === 1, `${got.threads} threads`);
      assert.match(got.version, /^\d+\.\d+\.\d+$/);
    });
    await files(page);
    await numbers(page);
    await streams(page);
    await texts(page);
    await test('nothing went wrong in the page', () => assert.deepEqual(problems, []));
  });
}
finish();
