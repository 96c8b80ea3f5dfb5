// The demo: a language model that continues a text, and a model that says of each character what kind of text it is in.
import { Model, Runnel } from './runnel/runnel.js';

const at = (id) => document.getElementById(id);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const runnel = await Runnel.load().catch((error) => {
  at('engine').textContent = error.message;
  throw error;
});
at('engine').textContent = `version ${runnel.version}, ${runnel.isThreaded ? `${runnel.threads} threads` : 'one thread (the page is not isolated)'}`;

// A place where a model is dropped, chosen or fetched; opened(model) is called with each.
function modelPlace(name, opened) {
  const status = at(`${name}-status`);
  let model;
  async function open(source) {
    try {
      await model?.close();
      const begin = performance.now();
      model = await Model.fromFile(source, {
        runnel,
        onProgress: (done, total) => (status.textContent = `${Math.round((100 * done) / total)} % of ${megabytes(total)}`),
      });
      status.textContent = `${model.info.name || model.info.architecture || 'opened'}, ${megabytes(model.info.fileBytes)}, ${Math.round(performance.now() - begin)} ms`;
      await opened(model);
    } catch (error) {
      status.textContent = error.message;
    }
  }
  const drop = at(`${name}-drop`);
  drop.ondragover = (event) => (event.preventDefault(), drop.classList.add('over'));
  drop.ondragleave = () => drop.classList.remove('over');
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  };
  at(`${name}-file`).onchange = ({ target }) => target.files[0] && open(target.files[0]);
  at(`${name}-fetch`).onclick = () => open(at(`${name}-address`).value);
}

// ---- a text goes on

let language;
let stopped;
modelPlace('language', (model) => {
  language = model;
  at('run').disabled = false;
});
at('run').onclick = async () => {
  stopped = new AbortController();
  [at('run').disabled, at('stop').disabled] = [true, false];
  const prompt = at('prompt').value;
  let session;
  const continuation = document.createTextNode('');
  const given = document.createElement('i');
  given.textContent = prompt;
  at('answer').replaceChildren(given, continuation);
  at('speed').textContent = '';
  let tokens = 0;
  let first;
  try {
    session = await language.session({ context: 2048 });
    const options = { maxTokens: Number(at('tokens').value), temperature: Number(at('temperature').value), seed: Date.now(), signal: stopped.signal };
    for await (const text of session.generate(prompt, options)) {
      first ??= performance.now();
      continuation.data += text;
      if (++tokens > 1) at('speed').textContent = `${(((tokens - 1) * 1000) / (performance.now() - first)).toFixed(1)} tokens a second`;
    }
    at('speed').textContent += ', done';
  } catch (error) {
    at('speed').textContent += `, ${error.message}`;
  }
  if (session) {
    const { state, arena } = await session.memory();
    at('speed').textContent += `; states ${megabytes(state)}, working memory ${megabytes(arena)}`;
    await session.close();
  }
  [at('run').disabled, at('stop').disabled] = [false, true];
};
at('stop').onclick = () => stopped.abort(new Error('stopped'));

// ---- a text in colours

const kWindow = 8192; // most bytes of a call
const kMargin = 1024; // bytes on both sides whose labels are not used, because they would like to see more
let labels;

// The vocabulary: visible ASCII and white space stand for themselves, all else is a currency sign.
const idOf = (byte) => ((byte >= 0x20 && byte < 0x7f) || [9, 10, 13].includes(byte) ? byte : 0xa4);

// The likeliest kind of each byte.
async function kindsOf(session, bytes) {
  const kinds = new Uint8Array(bytes.length);
  const step = kWindow - 2 * kMargin;
  for (let first = 0; first < bytes.length; first += step) {
    const begin = Math.max(0, first - kMargin);
    const end = Math.min(bytes.length, first + step + kMargin);
    const { logits } = await session.run({ bytes: Int32Array.from(bytes.subarray(begin, end), idOf) });
    const classes = logits.dims[1];
    for (let i = first; i < Math.min(bytes.length, first + step); ++i) {
      const row = logits.data.subarray((i - begin) * classes, (i - begin + 1) * classes);
      kinds[i] = row.indexOf(Math.max(...row));
    }
  }
  return kinds;
}
const colourOf = (kind) => `hsl(${(kind * 137) % 360} 70% 50% / 0.35)`;

async function colour(session) {
  const bytes = new TextEncoder().encode(at('text').value);
  const begin = performance.now();
  const kinds = await kindsOf(session, bytes);
  const time = performance.now() - begin;
  const seen = new Set();
  const marks = [];
  for (let i = 0; i < bytes.length; ) {
    let end = i + 1;
    // A character is not cut.
    while (end < bytes.length && (kinds[end] === kinds[i] || (bytes[end] & 0xc0) === 0x80)) ++end;
    const mark = document.createElement('mark');
    mark.textContent = new TextDecoder().decode(bytes.subarray(i, end));
    mark.title = labels[kinds[i]];
    mark.style.background = colourOf(kinds[i]);
    marks.push(mark);
    seen.add(kinds[i]);
    i = end;
  }
  at('coloured').replaceChildren(...marks);
  at('kinds').replaceChildren(...[...seen].flatMap((kind) => {
    const mark = document.createElement('mark');
    mark.textContent = labels[kind];
    mark.style.background = colourOf(kind);
    return [mark, ' '];
  }), `${bytes.length} bytes in ${Math.round(time)} ms`);
}
let again;
modelPlace('typeseg', async (model) => {
  labels = (await (await fetch('models/labels.txt')).text()).trim().split('\n');
  const session = await model.session();
  const show = () => colour(session);
  at('text').oninput = () => {
    clearTimeout(again);
    again = setTimeout(show, 300);
  };
  await show();
});
at('text').value = await (await fetch('texts/mixed.txt')).text();
