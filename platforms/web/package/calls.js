// The calls of runnel.h as the page's side asks for them: each takes plain values and gives plain values. Handles are
// addresses in the module's memory.
import { Memory, RunnelError } from './memory.js';

// Typed arrays by data type; halves stand in 16-bit integers.
const arrays = {
  RNL_F32: Float32Array, RNL_I32: Int32Array, RNL_I64: BigInt64Array, RNL_U8: Uint8Array, RNL_I8: Int8Array,
  RNL_F16: Uint16Array, RNL_BF16: Uint16Array,
};

export class Calls {
  /** @param cancelled whether the page has cancelled the call that runs now
   *  @param emit gives the page a part of the running call's answer */
  constructor(module, { cancelled, emit }) {
    this.m = module;
    this.memory = new Memory(module);
    this.dtypes = this.memory.constants.rnl_dtype;
    // Called by the library: each new token, and between the passes of a long call. Non-zero stops.
    this.onToken = module.addFunction((user, id, text, size) => {
      emit({ id, text: this.memory.text(text >>> 0, size) });
      return cancelled() ? 1 : 0;
    }, 'iiiii');
    this.onProgress = module.addFunction((user, done, total) => {
      emit({ progress: [Number(done), Number(total)] });
      return cancelled() ? 1 : 0;
    }, 'iijj');
    this.emit = emit;
    this.cancelled = cancelled;
    this.files = new Map(); // of models, their bytes
  }

  check(code) { this.memory.check(code); }
  // f(scope, address of a pointer that the library fills in)
  handle(f) {
    return this.memory.scoped((scope) => {
      const out = scope.alloc(8);
      this.check(f(scope, out));
      return this.memory.get('p', out);
    });
  }
  // A struct that the library fills in.
  filled(type, f) {
    return this.memory.scoped((scope) => {
      const at = scope.struct(type);
      this.check(f(at, scope));
      return this.memory.read(type, at);
    });
  }

  start({ threads }) {
    this.engine = this.handle((scope, out) => this.m._rnl_engine_create(scope.struct('rnl_engine_options', { threads }), out));
    return { version: this.memory.text(this.m._rnl_version() >>> 0), threads: this.m._rnl_engine_threads(this.engine) };
  }

  // ---- models

  /** Memory for a file of this size, which open() then takes. */
  room(size) {
    const at = this.m._aligned_alloc(64, Math.ceil(size / 64) * 64) >>> 0;
    if (!at) throw new RunnelError('out_of_memory', `no memory for the model's ${size} bytes`);
    return at;
  }
  release(at) { this.m._free(at); }
  open(at, size) {
    const model = this.handle((scope, out) => this.m._rnl_model_open_memory(this.engine, at, size, out));
    this.files.set(model, at);
    return { model, info: this.filled('rnl_model_info', (info) => this.m._rnl_model_get_info(model, info)), programs: this.programs(model) };
  }
  /** The page closes a model's sessions and grammars before it. */
  closeModel({ model }) {
    this.m._rnl_model_close(model);
    this.release(this.files.get(model));
    this.files.delete(model);
  }
  verify({ model }) { this.check(this.m._rnl_model_verify(model)); }

  programs(model) {
    return this.listed('rnl_program_info', (i, at) => this.m._rnl_model_program(model, i, at)).map((program) =>
      this.memory.scoped((scope) => {
        const name = scope.text(program.name).at;
        const values = (call) => this.listed('rnl_value_info', (i, at) => call(model, name, i, at), (value, at) => this.value(value, at));
        return { ...program, inputs: values(this.m._rnl_model_program_input), outputs: values(this.m._rnl_model_program_output) };
      }));
  }
  // Structs number 0, 1, ... until there are no more.
  listed(type, call, more = (x) => x) {
    return this.memory.scoped((scope) => {
      const list = [];
      const at = scope.struct(type);
      while (call(list.length, at) === 0) list.push(more(this.memory.read(type, at), at));
      return list;
    });
  }
  value(info, at) {
    const sizes = at + this.memory.field('rnl_value_info', 'sizes').at;
    return {
      name: info.name,
      dtype: this.dtypeName(info.dtype),
      sizes: Array.from({ length: info.rank }, (_, i) => this.memory.get('s', sizes + 4 * i)),
      optional: info.optional === 1,
    };
  }
  dtypeName(dtype) { return Object.keys(this.dtypes).find((name) => this.dtypes[name] === dtype).slice('RNL_'.length).toLowerCase(); }

  // ---- text

  flags({ special, plain }) {
    const { RNL_TEXT_NO_BOS_EOS, RNL_TEXT_SPECIAL } = this.memory.constants.text_flags;
    return (plain ? RNL_TEXT_NO_BOS_EOS : 0) | (special ? RNL_TEXT_SPECIAL : 0);
  }
  tokenize({ model, text, ...options }) {
    return this.memory.scoped((scope) => {
      const { at, size } = scope.text(text);
      const count = scope.alloc(8);
      this.check(this.m._rnl_tokenize(model, at, size, this.flags(options), 0, 0, count));
      const n = this.memory.get('p', count);
      const ids = scope.alloc(4 * n);
      this.check(this.m._rnl_tokenize(model, at, size, this.flags(options), ids, n, count));
      return this.copy(Int32Array, ids, n);
    });
  }
  detokenize({ model, ids, ...options }) {
    return this.memory.scoped((scope) => {
      const from = scope.bytes(Int32Array.from(ids));
      const size = scope.alloc(8);
      this.check(this.m._rnl_detokenize(model, from, ids.length, this.flags(options), 0, 0, size));
      const n = this.memory.get('p', size);
      const text = scope.alloc(n);
      this.check(this.m._rnl_detokenize(model, from, ids.length, this.flags(options), text, n, size));
      return this.memory.text(text, n);
    });
  }
  copy(Type, at, n) { return new Type(this.memory.bytes.slice(at, at + n * Type.BYTES_PER_ELEMENT).buffer); }

  grammar({ model, text }) {
    return this.handle((scope, out) => {
      const { at, size } = scope.text(text);
      return this.m._rnl_grammar_create(model, at, size, out);
    });
  }
  closeGrammar({ grammar }) { this.m._rnl_grammar_destroy(grammar); }

  // ---- sessions

  sessionOptions(scope, { kv, ...options }) {
    return scope.struct('rnl_session_options', { ...options, kv: kv && this.dtypes['RNL_' + kv.toUpperCase()] });
  }
  plan({ model, options }) {
    return this.filled('rnl_memory', (at, scope) => this.m._rnl_session_plan(model, this.sessionOptions(scope, options), at));
  }
  createSession({ model, options }) {
    return this.watched(this.handle((scope, out) => this.m._rnl_session_create(model, this.sessionOptions(scope, options), out)));
  }
  fork({ session }) { return this.watched(this.handle((scope, out) => this.m._rnl_session_fork(session, out))); }
  watched(session) {
    this.m._rnl_session_set_progress(session, this.onProgress, 0);
    return session;
  }
  closeSession({ session }) { this.m._rnl_session_destroy(session); }
  position({ session }) { return Number(this.m._rnl_session_position(session)); }
  reset({ session }) { this.m._rnl_session_reset(session); }
  rollback({ session, tokens }) { this.check(this.m._rnl_session_rollback(session, BigInt(tokens))); }
  memoryOf({ session }) { return this.filled('rnl_memory', (at) => this.m._rnl_session_get_memory(session, at)); }
  stats({ session }) {
    return this.filled('rnl_stats', (at) => (this.m._rnl_session_stats(session, at), 0));
  }
  snapshot({ session }) {
    const size = this.m._rnl_session_snapshot_bytes(session) >>> 0;
    return this.memory.scoped((scope) => {
      const at = scope.alloc(size, 64);
      this.check(this.m._rnl_session_snapshot(session, at, size));
      return this.copy(Uint8Array, at, size);
    });
  }
  restore({ session, bytes }) {
    this.memory.scoped((scope) => this.check(this.m._rnl_session_restore_snapshot(session, scope.bytes(bytes), bytes.byteLength)));
  }

  // ---- running

  generateOptions(scope, { stop = [], bias = {}, ...options }) {
    const at = scope.struct('rnl_generate_options');
    const set = (name, value) => {
      const { fields } = this.memory.types.rnl_generate_options;
      const key = name.replace(/[A-Z]/g, (c) => '_' + c.toLowerCase());
      const field = fields[key] ?? fields['sampling.' + key];
      if (!field) throw new TypeError(`there is no option ${name}`);
      this.memory.set(field.kind, at + field.at, value);
    };
    set('sampling.struct_size', this.memory.types.rnl_sampling.size);
    for (const [name, value] of Object.entries(options)) if (value !== undefined) set(name, value);
    const biases = Object.entries(bias).map(([id, b]) => ({ id, bias: b }));
    set('bias', scope.array('rnl_logit_bias', biases));
    set('bias_count', biases.length);
    set('stop', scope.pointers(stop.map((text) => scope.text(text).at)));
    set('stop_count', stop.length);
    return at;
  }
  generate({ model, session, prompt, options }) {
    // A stream that has begun gets no second beginning.
    const ids = typeof prompt === 'string' ? this.tokenize({ model, text: prompt, plain: this.position({ session }) > 0 }) : Int32Array.from(prompt ?? []);
    return this.memory.scoped((scope) => {
      const count = scope.alloc(8);
      this.check(this.m._rnl_session_generate(session, ids.length ? scope.bytes(ids) : 0, ids.length, this.generateOptions(scope, options),
        this.onToken, 0, count));
      return { generated: this.memory.get('l', count) };
    });
  }
  chat({ session, messages, variables = {}, options }) {
    return this.memory.scoped((scope) => {
      const named = Object.entries(variables).map(([name, v]) => (typeof v === 'string' ? { name, text: v } : { name, truth: v ? 1 : 0 }));
      const chat = scope.struct('rnl_chat', {
        messages: scope.array('rnl_chat_message', messages), message_count: messages.length,
        variables: scope.array('rnl_chat_variable', named), variable_count: named.length,
        now: Math.floor(Date.now() / 1000),
      });
      const result = scope.struct('rnl_chat_result');
      this.check(this.m._rnl_session_chat(session, chat, this.generateOptions(scope, options), this.onToken, 0, result));
      return this.memory.read('rnl_chat_result', result);
    });
  }
  embed({ model, session, input, size, options }) {
    const ids = typeof input === 'string' ? this.tokenize({ model, text: input }) : Int32Array.from(input);
    return this.memory.scoped((scope) => {
      const out = scope.alloc(4 * size);
      this.check(this.m._rnl_session_embed(session, scope.bytes(ids), ids.length, scope.struct('rnl_embed_options', options), out, size));
      return this.copy(Float32Array, out, size);
    });
  }

  tensor(scope, name, given) {
    const { data, dims = [data.length], dtype } = ArrayBuffer.isView(given) ? { data: given } : given;
    const key = dtype ? 'RNL_' + dtype.toUpperCase() : Object.keys(arrays).find((k) => data instanceof arrays[k]);
    if (!arrays[key] || !(data instanceof arrays[key])) throw new TypeError(`${name}: no data type for a ${data?.constructor?.name}`);
    return { name, dtype: this.dtypes[key], rank: dims.length, data: scope.bytes(data), bytes: data.byteLength, dims };
  }
  tensors(scope, list) {
    const at = scope.array('rnl_tensor', list.map(({ dims, ...rest }) => rest));
    list.forEach(({ dims = [] }, i) => dims.forEach((n, axis) => this.memory.set('l', this.dim(at, i, axis), n)));
    return at;
  }
  dim(at, i, axis) {
    const { size, fields } = this.memory.types.rnl_tensor;
    return at + i * size + fields.dims.at + 8 * axis;
  }
  run({ session, program, inputs, outputs }) {
    const { size, fields } = this.memory.types.rnl_tensor;
    return this.memory.scoped((scope) => {
      const name = program ? scope.text(program).at : 0;
      const given = Object.entries(inputs).map(([key, value]) => this.tensor(scope, key, value));
      const from = this.tensors(scope, given);
      const to = this.tensors(scope, outputs.map((key) => ({ name: key })));
      this.check(this.m._rnl_session_output_shapes(session, name, from, given.length, 0, to, outputs.length));
      for (let i = 0; i < outputs.length; ++i) {
        const at = to + i * size;
        this.memory.set('p', at + fields.data.at, scope.alloc(this.memory.get('p', at + fields.bytes.at), 64));
      }
      this.check(this.m._rnl_session_run(session, name, from, given.length, to, outputs.length));
      return Object.fromEntries(outputs.map((key, i) => [key, this.result(to, i)]));
    });
  }
  result(list, i) {
    const { size } = this.memory.types.rnl_tensor;
    const at = list + i * size;
    const { dtype, rank } = this.memory.read('rnl_tensor', at);
    const dims = Array.from({ length: rank }, (_, axis) => this.memory.get('l', this.dim(list, i, axis)));
    const name = this.dtypeName(dtype);
    const data = this.memory.get('p', at + this.memory.field('rnl_tensor', 'data').at);
    return { dtype: name, dims, data: this.copy(arrays['RNL_' + name.toUpperCase()], data, dims.reduce((a, b) => a * b, 1)) };
  }
}
