// The module's memory as JavaScript sees it: structs of runnel.h by the names of their fields, texts and typed arrays.

const camel = (name) => name.replace(/_([a-z])/g, (_, c) => c.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (c) => '_' + c.toLowerCase());

export class RunnelError extends Error {
  /** @param code the name of a status code of runnel.h, such as `invalid_model` */
  constructor(code, message) {
    super(message);
    this.name = 'RunnelError';
    this.code = code;
  }
}

export class Memory {
  constructor(module) {
    this.module = module;
    this.types = {};
    this.constants = {};
    const text = (at) => this.text(this.view.getUint32(at, true));
    for (let row = module._web_layout() >>> 0; this.view.getUint32(row, true); row += 16) {
      const [type, name] = [text(row), text(row + 4)];
      const value = this.view.getInt32(row + 8, true);
      const kind = String.fromCharCode(this.view.getInt32(row + 12, true));
      if (kind === 'c') (this.constants[type] ??= {})[name] = value;
      else if (!name) this.types[type] = { size: value, fields: {} };
      else this.types[type].fields[name] = { at: value, kind };
    }
  }

  // Memory may have grown since the last call.
  get bytes() { return this.module.HEAPU8; }
  get view() { return new DataView(this.module.HEAPU8.buffer); }

  text(at, size) {
    const bytes = this.bytes;
    const end = size === undefined ? bytes.indexOf(0, at) : at + size;
    // A decoder refuses shared memory: it gets a copy.
    return new TextDecoder().decode(bytes.slice(at, end));
  }

  /** Throws what a call's status code says. */
  check(code) {
    if (code === 0) return;
    const [name] = Object.entries(this.constants.rnl_status_code).find(([, value]) => value === code);
    throw new RunnelError(name.slice('RNL_'.length).toLowerCase(), this.text(this.module._rnl_last_error() >>> 0));
  }

  /** Calls f with a scope whose memory is given back afterwards. */
  scoped(f) {
    const scope = new Scope(this);
    try {
      return f(scope);
    } finally {
      scope.free();
    }
  }

  /** Numbers and texts of a struct, named as JavaScript does. */
  read(type, at) {
    const out = {};
    for (const [name, field] of Object.entries(this.types[type].fields))
      if (field.kind !== 'p') out[camel(name)] = this.get(field.kind, at + field.at);
    return out;
  }
  get(kind, at) {
    const v = this.view;
    if (kind === 'i') return v.getInt32(at, true);
    if (kind === 'l') return Number(v.getBigInt64(at, true));
    if (kind === 'f') return v.getFloat32(at, true);
    if (kind === 's') return this.text(v.getUint32(at, true));
    return v.getUint32(at, true);
  }
  set(kind, at, value) {
    const v = this.view;
    if (kind === 'i') v.setInt32(at, Number(value), true);
    else if (kind === 'l') v.setBigInt64(at, BigInt(value), true);
    else if (kind === 'f') v.setFloat32(at, value, true);
    else v.setUint32(at, value, true);
  }
  field(type, name) {
    const field = this.types[type].fields[name];
    if (!field) throw new TypeError(`${type} has no field ${name}`);
    return field;
  }
}

// What one call lends to the library.
class Scope {
  constructor(memory) {
    this.memory = memory;
    this.blocks = [];
  }
  free() {
    for (const at of this.blocks) this.memory.module._free(at);
  }
  alloc(size, alignment = 16) {
    const at = this.memory.module._aligned_alloc(alignment, Math.ceil(Math.max(size, 1) / alignment) * alignment) >>> 0;
    if (!at) throw new RunnelError('out_of_memory', `no memory for ${size} bytes`);
    this.blocks.push(at);
    return at;
  }
  bytes(array) {
    const at = this.alloc(array.byteLength);
    this.memory.bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at);
    return at;
  }
  // UTF-8, with its size without the zero that ends it.
  text(string) {
    const bytes = new TextEncoder().encode(string + '\0');
    return { at: this.bytes(bytes), size: bytes.length - 1 };
  }
  pointers(list) { return this.bytes(Uint32Array.from(list)); }

  /** A zeroed struct with these fields, by their names in runnel.h or as JavaScript writes them. */
  struct(type, values = {}, at = this.alloc(this.memory.types[type].size)) {
    const { memory } = this;
    const { size, fields } = memory.types[type];
    memory.bytes.fill(0, at, at + size);
    if (fields.struct_size) memory.set('p', at, size);
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined || value === null) continue;
      const field = fields[name] ?? memory.field(type, snake(name));
      memory.set(field.kind, at + field.at, field.kind === 's' ? this.text(value).at : value);
    }
    return at;
  }
  array(type, list) {
    const { size } = this.memory.types[type];
    const at = this.alloc(size * list.length);
    list.forEach((values, i) => this.struct(type, values, at + i * size));
    return at;
  }
}
