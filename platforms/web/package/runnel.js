// Runnel in a page: models and sessions whose calls run in a worker, so that the page never waits.
import { RunnelError } from './memory.js';

export { RunnelError };

const hasSharedMemory = () => typeof SharedArrayBuffer !== 'undefined' && globalThis.crossOriginIsolated === true;

// What tells the worker that a call is cancelled (worker.js says how).
function cancelMark() {
  if (hasSharedMemory()) {
    const word = new Int32Array(new SharedArrayBuffer(4));
    return { cancel: word, set: () => Atomics.store(word, 0, 1), drop: () => {} };
  }
  const [cancel, control] = [0, 1].map(() => URL.createObjectURL(new Blob(['.'])));
  const revoke = () => URL.revokeObjectURL(cancel);
  return { cancel, control, set: revoke, drop: () => (revoke(), URL.revokeObjectURL(control)) };
}

// Objects that the page forgot to close are closed when they are collected.
const forgotten = new FinalizationRegistry((close) => close());

export class Runnel {
  #worker;
  #calls = new Map(); // id -> what waits for its answer
  #next = 0;
  #closed = false;

  /** Loads the module: with threads where the page is isolated from other origins, else without. */
  static async load({ threads } = {}) {
    const runnel = new Runnel();
    runnel.#worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
    runnel.#worker.onmessage = ({ data }) => runnel.#receive(data);
    runnel.#worker.onerror = (event) => runnel.#end(new RunnelError('internal', event.message || 'the worker could not be started'));
    const isThreaded = hasSharedMemory() && threads !== 1;
    const most = Math.min(navigator.hardwareConcurrency || 1, 4);
    Object.assign(runnel, await runnel.call('start', { threads: isThreaded ? threads || most : 1, isThreaded }));
    return runnel;
  }

  /** @internal One call in the worker; onPart gets parts of its answer. */
  call(method, args, { signal, onPart, running } = {}) {
    if (this.#closed) return Promise.reject(new RunnelError('invalid_argument', 'this Runnel is closed'));
    if (signal?.aborted) return Promise.reject(signal.reason);
    const mark = onPart ? cancelMark() : undefined;
    const id = this.#next++;
    const stop = () => mark.set();
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, onPart });
      this.#worker.postMessage({ id, method, args, cancel: mark?.cancel, control: mark?.control });
      if (mark) {
        signal?.addEventListener('abort', stop);
        running?.add(stop);
      }
    }).finally(() => {
      signal?.removeEventListener('abort', stop);
      running?.delete(stop);
      mark?.drop();
    }).then(
      (result) => result,
      (error) => { throw signal?.aborted && error.code === 'cancelled' ? signal.reason : error; },
    );
  }
  #receive({ id, part, result, error }) {
    const waiting = this.#calls.get(id);
    if (part) return waiting?.onPart?.(part);
    this.#calls.delete(id);
    if (!error) waiting?.resolve(result);
    else waiting?.reject(error.code ? new RunnelError(error.code, error.message) : Object.assign(new Error(error.message), { name: error.name }));
  }
  #end(error) {
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }
  /** Ends the worker with all its models and sessions; calls that run are rejected. */
  close() {
    this.#closed = true;
    this.#worker.terminate();
    this.#end(new RunnelError('cancelled', 'this Runnel was closed'));
  }
}

let shared;
const sharedRunnel = () => (shared ??= Runnel.load().catch((error) => { shared = undefined; throw error; }));

// Something in the worker that is closed once. What stands inside of it is closed before it.
class Handle {
  #close;
  #inside = new Set();
  /** @internal */
  constructor(runnel, args, closing, parent) {
    this.runnel = runnel;
    this.args = args;
    this.running = new Set();
    const { running } = this;
    const inside = this.#inside;
    let closed;
    this.#close = () => (closed ??= (async () => {
      parent?.delete(this.#close);
      for (const stop of running) stop();
      await Promise.all([...inside].map((close) => close()));
      await runnel.call(closing, args);
    })().catch(() => {}));
    parent?.add(this.#close);
    this.closed = () => closed !== undefined;
  }
  /** @internal */
  get inside() { return this.#inside; }
  /** @internal */
  async call(method, args = {}, options = {}) {
    if (this.closed()) throw new RunnelError('invalid_argument', 'this object is closed');
    return this.runnel.call(method, { ...this.args, ...args }, { ...options, running: this.running });
  }
  close() { return this.#close(); }
}

export class Model extends Handle {
  /** Opens a model from a File or Blob, an ArrayBuffer or an address. */
  static async fromFile(source, { runnel, onProgress, signal } = {}) {
    runnel ??= await sharedRunnel();
    const from = typeof source === 'string' || source instanceof URL ? new URL(source, globalThis.location?.href).href : source;
    const { model, info, programs } = await runnel.call('open', { source: from }, { signal, onPart: ({ progress }) => onProgress?.(...progress) });
    return Object.assign(new Model(runnel, { model }, 'closeModel'), { info, programs });
  }
  verify() { return this.call('verify'); }
  tokenize(text, options) { return this.call('tokenize', { text, ...options }); }
  detokenize(ids, options) { return this.call('detokenize', { ids, ...options }); }
  plan(options = {}) { return this.call('plan', { options }); }
  async grammar(text) {
    const grammar = await this.call('grammar', { text });
    return new Grammar(this.runnel, { grammar }, 'closeGrammar', this.inside);
  }
  async session(options = {}) { return this.#session(await this.call('createSession', { options })); }
  /** @internal */
  #session(session) { return new Session(this.runnel, { ...this.args, session }, 'closeSession', this.inside, this, (s) => this.#session(s)); }
}

export class Grammar extends Handle {}

export class Session extends Handle {
  #model;
  #create;
  /** @internal */
  constructor(runnel, args, closing, parent, model, create) {
    super(runnel, args, closing, parent);
    this.#model = model;
    this.#create = create;
  }
  get model() { return this.#model; }

  /** Texts of a continuation, as they come. prompt: a text, ids, or null to go on. */
  generate(prompt, options = {}) { return this.#stream('generate', { prompt }, options); }
  /** Texts of the answer to a conversation. */
  chat(messages, { variables, ...options } = {}) { return this.#stream('chat', { messages, variables }, options); }
  embed(input, options = {}) { return this.call('embed', { input, size: this.#model.info.embedding, options }, { onPart: () => {} }); }

  /** Runs a program (by default the first) on named tensors; gives its outputs by name. */
  run(inputs, { program, outputs, signal, onProgress } = {}) {
    const { programs } = this.#model;
    const graph = program ? programs.find(({ name }) => name === program) : programs[0];
    const names = outputs ?? graph?.outputs.filter(({ optional }) => !optional).map(({ name }) => name) ?? [];
    return this.call('run', { program: graph ? graph.name : program, inputs, outputs: names }, { signal, onPart: ({ progress }) => onProgress?.(...progress) });
  }

  async position() { return this.call('position'); }
  reset() { return this.call('reset'); }
  rollback(tokens) { return this.call('rollback', { tokens }); }
  snapshot() { return this.call('snapshot'); }
  restore(bytes) { return this.call('restore', { bytes }); }
  async fork() { return this.#create(await this.call('fork')); }
  memory() { return this.call('memoryOf'); }
  stats() { return this.call('stats'); }

  async *#stream(method, args, { signal, onProgress, grammar, ...options }) {
    const parts = [];
    let wake;
    let end;
    const own = new AbortController();
    const abort = () => own.abort(signal.reason);
    if (signal?.aborted) throw signal.reason;
    signal?.addEventListener('abort', abort);
    const push = (part) => (part.progress ? onProgress?.(...part.progress) : (parts.push(part.text), wake?.()));
    const call = this.call(method, { ...args, options: { ...options, grammar: grammar?.args.grammar } }, { signal: own.signal, onPart: push });
    call.then((result) => (end = { result }), (error) => (end = { error })).then(() => wake?.());
    try {
      for (;;) {
        if (parts.length) yield parts.shift();
        else if (end) break;
        else await new Promise((resolve) => (wake = resolve));
      }
      if (signal?.aborted) throw signal.reason;
      if (end.error) throw end.error;
      if (this.closed()) throw new RunnelError('cancelled', 'the session was closed');
      return end.result;
    } finally {
      // Also when the reader breaks off: the session is free again when the iterator's return() is done.
      signal?.removeEventListener('abort', abort);
      own.abort(new RunnelError('cancelled', 'the reader went away'));
      await call.catch(() => {});
    }
  }
}
