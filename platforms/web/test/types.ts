// Compiled, not run: the types allow what the README shows, and no other names.
import { Model, Runnel, RunnelError, type ChatResult } from './runnel.js';

export async function readme(file: File, signal: AbortSignal): Promise<void> {
  const runnel = await Runnel.load({ threads: 2 });
  const model = await Model.fromFile(file, { runnel, onProgress: (done, total) => console.log(done / total), signal });
  const session = await model.session({ context: 2048, rollbackWindow: 64, kv: 'f16' });
  for await (const text of session.generate('Once', { maxTokens: 64, temperature: 0.7, seed: 1n, stop: ['\n'], signal })) console.log(text);
  const answer = session.chat([{ role: 'user', content: 'Hello' }], { variables: { enable_thinking: false } });
  let result: ChatResult | undefined;
  for (let part = await answer.next(); ; part = await answer.next())
    if (part.done) {
      result = part.value;
      break;
    }
  console.log(result.kept);
  const { logits } = await session.run({ ids: Int32Array.of(1, 2), halves: { data: new Uint16Array(2), dtype: 'f16' } }, { outputs: ['logits'] });
  console.log(logits.dims, await session.embed('text'));
  const saved = await session.snapshot();
  await session.restore(saved);
  await (await session.fork()).close();
  try {
    // @ts-expect-error an option that does not exist
    await model.session({ contexts: 1 });
  } catch (error) {
    if (error instanceof RunnelError && error.code === 'cancelled') await model.close();
  }
  runnel.close();
}
