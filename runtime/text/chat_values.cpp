#include "text/chat_values.h"

#include <cstdio>
#include <cstring>
#include <new>

#include "text/chat_program.h"
#include "text/utf8.h"

namespace runnel::chat {
namespace {

constexpr size_t kBlockBytes = size_t(64) << 10;

Status wrong(const char* what, const Value& a, const Value& b) {
  return Status::make(Code::kInvalidArgument, "%s of %s and %s", what, type_name(a.type), type_name(b.type));
}

bool same_bytes(const Value& a, const Value& b) {
  return a.size == b.size && (a.size == 0 || std::memcmp(a.text, b.text, a.size) == 0);
}

// Null: no such key.
const Value* look_up(const Value* items, size_t pairs, const Value& key) {
  for (size_t i = 0; i < pairs; ++i) {
    const Value& k = items[2 * i];
    if (k.type == key.type && (k.is(Type::kText) ? same_bytes(k, key) : k.integer == key.integer))
      return &items[2 * i + 1];
  }
  return nullptr;
}

// Where character i of a text begins.
size_t offset_of(const Value& text, int64_t i) {
  size_t at = 0;
  for (; i > 0 && at < text.size; --i) at += character_size(text.text + at, text.size - at);
  return at;
}

}  // namespace

const char* type_name(Type type) {
  static const char kNames[][16] = {"undefined", "none",      "a truth value", "a number", "text",
                                    "a list",    "a mapping", "a namespace",   "a list",   "undefined"};
  return kNames[int(type)];
}

bool Value::truth() const {
  switch (type) {
    case Type::kBool:
    case Type::kInteger: return integer != 0;
    case Type::kText:
    case Type::kList:
    case Type::kDict: return size != 0;
    case Type::kNamespace:
    case Type::kBuilder: return true;
    default: return false;
  }
}

Arena::~Arena() {
  while (blocks_) {
    Block* next = blocks_->next;
    ::operator delete(blocks_);
    blocks_ = next;
  }
}

Result<void*> Arena::take(size_t bytes) {
  bytes = (bytes + 15) / 16 * 16;
  if (bytes > bytes_left_) return Status::make(Code::kUnsupported, "it needs too much memory");
  bytes_left_ -= bytes;
  if (bytes > room_) {
    const size_t size = bytes > kBlockBytes / 4 ? bytes : kBlockBytes;
    auto* block = static_cast<Block*>(::operator new(size + 16, std::nothrow));
    if (!block) return Status::make(Code::kOutOfMemory, "no memory for %zu bytes", size);
    block->next = blocks_;
    blocks_ = block;
    char* begin = reinterpret_cast<char*>(block) + 16;
    if (size == bytes && room_) return static_cast<void*>(begin);  // the block in use goes on
    at_ = begin;
    room_ = size;
  }
  void* p = at_;
  at_ += bytes;
  room_ -= bytes;
  return p;
}

Status TextBuilder::add(const Value& text) {
  RNL_TRY(bytes_.append(text.text, text.size));
  if (text.tags) return tags_.append(text.tags, text.size);
  RNL_TRY(tags_.reserve(tags_.size() + text.size));
  for (size_t i = 0; i < text.size; ++i) RNL_TRY(tags_.push(text.tag));
  return Status::ok();
}

Result<Value> TextBuilder::take_from(size_t from, Arena* arena) {
  const size_t n = size() - from;
  Value v = Value::string("", 0);
  if (n) {
    RNL_ASSIGN(text, arena->take_array<char>(n));
    RNL_ASSIGN(tags, arena->take_array<uint16_t>(n));
    std::memcpy(text, data() + from, n);
    std::memcpy(tags, tags_.data() + from, n * sizeof(uint16_t));
    v = Value::string(text, n);
    v.tags = tags;
  }
  cut(from);
  return v;
}

void TextBuilder::cut(size_t to) {
  while (bytes_.size() > to) bytes_.pop(), tags_.pop();
}

Result<Value> as_text(const Value& v, Arena* arena) {
  switch (v.type) {
    case Type::kText: return v;
    case Type::kUndefined:
    case Type::kMissing: return Value::string("", 0);
    case Type::kNone: return Value::string("None", 4);
    case Type::kBool: return v.integer ? Value::string("True", 4) : Value::string("False", 5);
    case Type::kInteger: {
      RNL_ASSIGN(text, arena->take_array<char>(24));
      return Value::string(text, size_t(std::snprintf(text, 24, "%lld", static_cast<long long>(v.integer))));
    }
    default: return Status::make(Code::kUnsupported, "%s as text", type_name(v.type));
  }
}

Result<Value> concat(const Value& a, const Value& b, Arena* arena) {
  RNL_ASSIGN(x, as_text(a, arena));
  RNL_ASSIGN(y, as_text(b, arena));
  const size_t n = size_t(x.size) + y.size;
  if (x.size == 0) return y;
  if (y.size == 0) return x;
  if (n > uint32_t(INT32_MAX)) return Status::make(Code::kUnsupported, "a text of %zu bytes", n);
  RNL_TRY(arena->step(n));
  RNL_ASSIGN(text, arena->take_array<char>(n));
  std::memcpy(text, x.text, x.size);
  std::memcpy(text + x.size, y.text, y.size);
  Value v = Value::string(text, n, x.tag);
  if (x.tags || y.tags || x.tag != y.tag) {
    RNL_ASSIGN(tags, arena->take_array<uint16_t>(n));
    for (size_t i = 0; i < x.size; ++i) tags[i] = x.tag_at(i);
    for (size_t i = 0; i < y.size; ++i) tags[x.size + i] = y.tag_at(i);
    v.tags = tags;
  }
  return v;
}

Result<Value> add(const Value& a, const Value& b, Arena* arena) {
  if (a.is(Type::kText) && b.is(Type::kText)) return concat(a, b, arena);
  if (a.is(Type::kList) && b.is(Type::kList)) {
    const size_t n = size_t(a.size) + b.size;
    RNL_TRY(arena->step(n));
    RNL_ASSIGN(items, arena->take_array<Value>(n));
    if (a.size) std::memcpy(items, a.items, a.size * sizeof(Value));
    if (b.size) std::memcpy(items + a.size, b.items, b.size * sizeof(Value));
    return Value::list(items, n);
  }
  return arithmetic(uint8_t(Op::kAdd), a, b, arena);
}

Result<Value> arithmetic(uint8_t op, const Value& a, const Value& b, Arena* arena) {
  const Op o = Op(op);
  const Value& counted = a.is_integer() ? b : a;
  if (o == Op::kMultiply && (counted.is(Type::kText) || counted.is(Type::kList)) &&
      (a.is_integer() || b.is_integer())) {
    const int64_t times = a.is_integer() ? a.integer : b.integer;
    Value out = counted.is(Type::kText) ? Value::string("", 0) : Value::list(nullptr, 0);
    for (int64_t i = 0; i < times && counted.size; ++i) {
      RNL_ASSIGN(more, add(out, counted, arena));
      out = more;
    }
    return out;
  }
  if (!a.is_integer() || !b.is_integer()) return wrong("arithmetic", a, b);
  int64_t r = 0;
  bool overflow = false;
  switch (o) {
    case Op::kAdd: overflow = __builtin_add_overflow(a.integer, b.integer, &r); break;
    case Op::kSubtract: overflow = __builtin_sub_overflow(a.integer, b.integer, &r); break;
    case Op::kMultiply: overflow = __builtin_mul_overflow(a.integer, b.integer, &r); break;
    default: {
      if (b.integer == 0) return Status::make(Code::kInvalidArgument, "division by zero");
      if (b.integer == -1) {
        if (o == Op::kFloorDivide) overflow = __builtin_sub_overflow(int64_t(0), a.integer, &r);
        break;
      }
      const int64_t rest = a.integer % b.integer;
      const bool down = rest != 0 && (rest < 0) != (b.integer < 0);  // towards minus infinity
      r = o == Op::kModulo ? rest + (down ? b.integer : 0) : a.integer / b.integer - down;
    }
  }
  if (overflow) return Status::make(Code::kUnsupported, "a number beyond 64 bits");
  return Value::number(r);
}

Result<bool> equal(const Value& a, const Value& b, Arena* arena, int depth) {
  if (depth > kMaxValueDepth) return Status::make(Code::kUnsupported, "lists nested more than %d deep", kMaxValueDepth);
  if (a.is_integer() && b.is_integer()) return a.integer == b.integer;
  if (a.type != b.type) return false;
  RNL_TRY(arena->step(a.size));
  switch (a.type) {
    case Type::kText: return same_bytes(a, b);
    case Type::kList:
    case Type::kDict: {
      if (a.size != b.size) return false;
      for (uint32_t i = 0; i < a.size; ++i) {
        const bool is_dict = a.is(Type::kDict);
        const Value* other = is_dict ? look_up(b.items, b.size, a.items[2 * i]) : &b.items[i];
        if (!other) return false;
        RNL_ASSIGN(same, equal(a.items[is_dict ? 2 * i + 1 : i], *other, arena, depth + 1));
        if (!same) return false;
      }
      return true;
    }
    case Type::kNamespace:
    case Type::kBuilder: return a.growing == b.growing;
    default: return true;
  }
}

Result<int> compare(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return int(a.integer > b.integer) - int(a.integer < b.integer);
  if (!a.is(Type::kText) || !b.is(Type::kText)) return wrong("comparison", a, b);
  const uint32_t n = a.size < b.size ? a.size : b.size;
  const int c = n ? std::memcmp(a.text, b.text, n) : 0;
  return c ? (c > 0 ? 1 : -1) : int(a.size > b.size) - int(a.size < b.size);
}

size_t find_text(const Value& a, const Value& b, size_t from) {
  if (b.size == 0) return from <= a.size ? from : size_t(-1);
  if (from >= a.size) return size_t(-1);
  const void* at = memmem(a.text + from, a.size - from, b.text, b.size);
  return at ? size_t(static_cast<const char*>(at) - a.text) : size_t(-1);
}

Result<bool> contains(const Value& needle, const Value& in, Arena* arena) {
  RNL_TRY(arena->step(in.size));
  switch (in.type) {
    case Type::kText:
      if (!needle.is(Type::kText)) return wrong("`in`", needle, in);
      return find_text(in, needle, 0) != size_t(-1);
    case Type::kDict: return look_up(in.items, in.size, needle) != nullptr;
    case Type::kList:
      for (uint32_t i = 0; i < in.size; ++i) {
        RNL_ASSIGN(same, equal(needle, in.items[i], arena));
        if (same) return true;
      }
      return false;
    case Type::kUndefined: return false;
    default: return wrong("`in`", needle, in);
  }
}

Result<Value> attribute(const Value& object, const Value& name) {
  const Value* found = nullptr;
  switch (object.type) {
    case Type::kDict: found = look_up(object.items, object.size, name); break;
    case Type::kNamespace: found = look_up(object.growing->items, object.growing->size / 2, name); break;
    case Type::kUndefined:
    case Type::kMissing:
      return Status::make(Code::kInvalidArgument, "\"%.*s\" of something undefined",
                          int(name.size < 80 ? name.size : 80), name.text);
    default: break;
  }
  return found ? *found : Value();
}

size_t length(const Value& v) {
  if (!v.is(Type::kText)) return v.size;
  size_t n = 0;
  for (size_t at = 0; at < v.size; ++n) at += character_size(v.text + at, v.size - at);
  return n;
}

size_t character_size(const char* text, size_t size) {
  return utf8_step(reinterpret_cast<const unsigned char*>(text), size).length;
}

Result<Value> element(const Value& object, const Value& key, Arena* arena) {
  if (key.is(Type::kText)) return attribute(object, key);
  if (object.is(Type::kUndefined)) return Status::make(Code::kInvalidArgument, "an element of something undefined");
  RNL_TRY(arena->step(object.size));
  if (object.is(Type::kDict)) {
    const Value* found = look_up(object.items, object.size, key);
    return found ? *found : Value();
  }
  if (!key.is_integer() || (!object.is(Type::kList) && !object.is(Type::kText))) return Value();
  const int64_t n = int64_t(length(object)), i = key.integer < 0 ? key.integer + n : key.integer;
  if (i < 0 || i >= n) return Value();
  if (object.is(Type::kList)) return object.items[i];
  const size_t at = offset_of(object, i);
  return object.part(at, at + character_size(object.text + at, object.size - at));
}

Result<Value> slice(const Value& object, const Value& start, const Value& stop, const Value& step, Arena* arena) {
  for (const Value* v : {&start, &stop, &step})
    if (!v->is_integer() && !v->is(Type::kNone))
      return Status::make(Code::kInvalidArgument, "a slice by %s", type_name(v->type));
  if (!object.is(Type::kList) && !object.is(Type::kText))
    return Status::make(Code::kInvalidArgument, "a slice of %s", type_name(object.type));
  RNL_TRY(arena->step(object.size));
  const int64_t n = int64_t(length(object)), by = step.is_integer() ? step.integer : 1;
  if (by == 0) return Status::make(Code::kInvalidArgument, "a slice with step 0");
  const int64_t low = by < 0 ? -1 : 0, high = by < 0 ? n - 1 : n;
  const auto bound = [&](const Value& v, int64_t otherwise) {
    if (!v.is_integer()) return otherwise;
    const int64_t i = v.integer < 0 ? v.integer + n : v.integer;
    return i < low ? low : i > high ? high : i;
  };
  const int64_t from = bound(start, by < 0 ? high : low), to = bound(stop, by < 0 ? low : high);
  if (by == 1) {
    if (object.is(Type::kText))
      return to > from ? object.part(offset_of(object, from), offset_of(object, to)) : Value::string("", 0);
    return Value::list(object.items + (to > from ? from : 0), to > from ? size_t(to - from) : 0);
  }
  RNL_ASSIGN(list, as_list(object, arena));
  RNL_ASSIGN(items, arena->take_array<Value>(size_t(n)));
  size_t count = 0;
  // A step beyond the ends takes one element: the sum below cannot overflow.
  const int64_t stride = by > n + 1 ? n + 1 : by < -n - 1 ? -n - 1 : by;
  for (int64_t i = from; stride > 0 ? i < to : i > to; i += stride) items[count++] = list.items[i];
  if (object.is(Type::kList)) return Value::list(items, count);
  TextBuilder out;
  for (size_t i = 0; i < count; ++i) RNL_TRY(out.add(items[i]));
  return out.take_from(0, arena);
}

Status append(const Value& builder, const Value& value, Arena* arena) {
  if (!builder.is(Type::kBuilder) && !builder.is(Type::kNamespace))
    return Status::make(Code::kInvalidModel, "it appends to %s", type_name(builder.type));
  Growing& g = *builder.growing;
  if (g.size == g.capacity) {
    const uint32_t capacity = g.capacity ? 2 * g.capacity : 8;
    RNL_ASSIGN(items, arena->take_array<Value>(capacity));
    if (g.size) std::memcpy(items, g.items, g.size * sizeof(Value));
    g.items = items;
    g.capacity = capacity;
  }
  g.items[g.size++] = value;
  return Status::ok();
}

Status set_attribute(const Value& object, const Value& name, const Value& value, Arena* arena) {
  if (!object.is(Type::kNamespace))
    return Status::make(Code::kInvalidArgument, "an attribute of %s is set", type_name(object.type));
  RNL_TRY(arena->step(object.growing->size));
  if (const Value* found = look_up(object.growing->items, object.growing->size / 2, name)) {
    *const_cast<Value*>(found) = value;
    return Status::ok();
  }
  RNL_TRY(append(object, name, arena));
  return append(object, value, arena);
}

Result<Value> as_list(const Value& v, Arena* arena) {
  if (v.is(Type::kList)) return v;
  if (v.is(Type::kUndefined)) return Value::list(nullptr, 0);
  if (!v.is(Type::kText) && !v.is(Type::kDict))
    return Status::make(Code::kInvalidArgument, "the elements of %s", type_name(v.type));
  RNL_TRY(arena->step(v.size));
  RNL_ASSIGN(items, arena->take_array<Value>(v.size));
  size_t n = 0;
  if (v.is(Type::kDict)) {
    for (; n < v.size; ++n) items[n] = v.items[2 * n];
  } else {
    for (size_t at = 0; at < v.size; ++n) {
      const size_t size = character_size(v.text + at, v.size - at);
      items[n] = v.part(at, at + size);
      at += size;
    }
  }
  return Value::list(items, n);
}

}  // namespace runnel::chat
