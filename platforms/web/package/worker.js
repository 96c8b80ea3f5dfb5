// The worker that computes: takes the page's calls one after the other and answers them.
import { Calls } from './calls.js';
import { RunnelError } from './memory.js';

let calls;
let current; // the call that runs now

// Whether the page has cancelled a call. With shared memory the page writes a word. Without it nothing from the page
// arrives while the worker computes, but requests for a blob's address fail once the page has revoked it; those for a
// second one go on, unless the page's policy forbids them all.
const kLookMilliseconds = 20;
function isCancelled(call) {
  if (!call?.cancel) return false;
  if (typeof call.cancel !== 'string') return Atomics.load(call.cancel, 0) !== 0;
  const now = performance.now();
  if (now < call.nextLook) return false;
  call.nextLook = now + kLookMilliseconds;
  return !canRequest(call.cancel) && canRequest(call.control);
}
function canRequest(url) {
  try {
    const request = new XMLHttpRequest();
    request.open('GET', url, false);
    request.send();
    return request.status === 200;
  } catch {
    return false;
  }
}

async function start({ threads, isThreaded }) {
  const { default: create } = isThreaded ? await import('./wasm/runnel-threads.js') : await import('./wasm/runnel.js');
  const module = await create({ threads, printErr: () => {} });
  calls = new Calls(module, { cancelled: () => isCancelled(current), emit: (part) => postMessage({ id: current.id, part }) });
  return { ...calls.start({ threads }), isThreaded };
}

// A model's bytes go from their source to the module's memory piece by piece.
async function open({ source }, call) {
  const { stream, size } = await opened(source);
  const at = calls.room(size);
  try {
    let done = 0;
    for (const reader = stream.getReader(); ; ) {
      const { value, done: isLast } = await reader.read();
      if (isLast) break;
      if (done + value.length > size) throw new RunnelError('io', `the model's file is longer than its stated ${size} bytes`);
      calls.memory.bytes.set(value, at + done);
      done += value.length;
      postMessage({ id: call.id, part: { progress: [done, size] } });
      if (isCancelled(call)) {
        await reader.cancel();
        throw new RunnelError('cancelled', 'opening the model was cancelled');
      }
    }
    if (done < size) throw new RunnelError('io', `the model's file ended at byte ${done} of ${size}`);
    return calls.open(at, size);
  } catch (error) {
    calls.release(at);
    throw error;
  }
}
async function opened(source) {
  if (source instanceof Blob) return { stream: source.stream(), size: source.size };
  if (source instanceof ArrayBuffer) return opened(new Blob([source]));
  const response = await fetch(source);
  if (!response.ok) throw new RunnelError('not_found', `${source}: ${response.status} ${response.statusText}`);
  const size = Number(response.headers.get('Content-Length'));
  // What is sent compressed states the compressed size.
  if (!size || response.headers.get('Content-Encoding')) return opened(await response.blob());
  return { stream: response.body, size };
}

const ofWorker = { start, open };
self.onmessage = async ({ data: { id, method, args, cancel, control } }) => {
  const call = { id, cancel, control, nextLook: 0 };
  try {
    let result;
    if (ofWorker[method]) {
      result = await ofWorker[method](args, call);
    } else {
      current = call;
      result = calls[method](args);
    }
    postMessage({ id, result });
  } catch (error) {
    postMessage({ id, error: { name: error.name, code: error.code, message: error.message } });
  }
};
