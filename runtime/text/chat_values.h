// Values of chat programs. They live in an arena that goes with the rendering; nothing in it changes but namespaces and
// lists being built.
//
// Text knows where each of its bytes comes from: tag 0 is the template (and bos, eos), tag 1 + i message i, kOtherTag a
// variable that the caller gave. All operations carry tags along, so that in the end only the template's own bytes can
// become special tokens.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"

namespace runnel::chat {

inline constexpr uint16_t kTemplateTag = 0, kOtherTag = 0xFFFF;
inline constexpr int kMaxValueDepth = 32;  // of lists and mappings in each other, where they are compared or written as
                                           // JSON

enum class Type : uint8_t { kUndefined, kNone, kBool, kInteger, kText, kList, kDict, kNamespace, kBuilder, kMissing };
const char* type_name(Type type);

struct Value;
// A namespace's keys and values one after the other, or a list being built.
struct Growing {
  Value* items;
  uint32_t size, capacity;
};

struct Value {
  Type type = Type::kUndefined;
  uint16_t tag = 0;   // of all bytes of a text without `tags`
  uint32_t size = 0;  // bytes of a text, elements of a list, pairs of a dict
  union {
    int64_t integer = 0;  // kBool: 0 or 1
    const char* text;
    const Value* items;  // kDict: keys and values one after the other
    Growing* growing;
  };
  const uint16_t* tags = nullptr;

  static Value of(Type type) {
    Value v;
    v.type = type;
    return v;
  }
  static Value boolean(bool b) {
    Value v = of(Type::kBool);
    v.integer = b;
    return v;
  }
  static Value number(int64_t n) {
    Value v = of(Type::kInteger);
    v.integer = n;
    return v;
  }
  static Value string(const char* text, size_t size, uint16_t tag = kTemplateTag) {
    Value v = of(Type::kText);
    v.text = text;
    v.size = uint32_t(size);
    v.tag = tag;
    return v;
  }
  static Value list(const Value* items, size_t size) {
    Value v = of(Type::kList);
    v.items = items;
    v.size = uint32_t(size);
    return v;
  }
  bool is(Type t) const { return type == t; }
  bool is_integer() const { return type == Type::kInteger || type == Type::kBool; }
  uint16_t tag_at(size_t i) const { return tags ? tags[i] : tag; }
  bool truth() const;
  // The bytes [begin, end) of a text.
  Value part(size_t begin, size_t end) const {
    Value v = *this;
    v.text += begin;
    v.size = uint32_t(end - begin);
    if (tags) v.tags += begin;
    return v;
  }
};

// Memory and time of one rendering, both bounded: a program may come from a hostile file.
class Arena {
 public:
  explicit Arena(size_t input_bytes)
      : bytes_left_((size_t(32) << 20) + 64 * input_bytes), steps_left_((size_t(1) << 23) + 64 * input_bytes) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  Result<void*> take(size_t bytes);
  template <class T>
  Result<T*> take_array(size_t n) {
    RNL_ASSIGN(p, take(n * sizeof(T)));
    return static_cast<T*>(p);
  }
  // One instruction that touches this many elements.
  Status step(size_t elements) {
    const size_t n = 1 + elements / 16;
    if (n > steps_left_) return Status::make(Code::kUnsupported, "it takes too long");
    steps_left_ -= n;
    return Status::ok();
  }

 private:
  struct Block {
    Block* next;
  };
  Block* blocks_ = nullptr;
  char* at_ = nullptr;
  size_t room_ = 0, bytes_left_, steps_left_;
};

// Text put together from others.
class TextBuilder {
 public:
  Status add(const Value& text);
  Status add(const char* text, size_t size, uint16_t tag) { return add(Value::string(text, size, tag)); }
  size_t size() const { return bytes_.size(); }
  const char* data() const { return bytes_.data(); }
  const uint16_t* tags() const { return tags_.data(); }
  // What was added behind `from`, moved into the arena.
  Result<Value> take_from(size_t from, Arena* arena);
  void cut(size_t to);

 private:
  Vec<char> bytes_;
  Vec<uint16_t> tags_;
};

// Each of these fails with a message that names types, not places: the interpreter knows the line.
Result<Value> as_text(const Value& v, Arena* arena);
Result<Value> add(const Value& a, const Value& b, Arena* arena);
Result<Value> arithmetic(uint8_t op, const Value& a, const Value& b, Arena* arena);
Result<Value> concat(const Value& a, const Value& b, Arena* arena);
Result<bool> equal(const Value& a, const Value& b, Arena* arena, int depth = 0);
// -1, 0, 1
Result<int> compare(const Value& a, const Value& b);
Result<bool> contains(const Value& needle, const Value& in, Arena* arena);
Result<Value> attribute(const Value& object, const Value& name);
Result<Value> element(const Value& object, const Value& key, Arena* arena);
Result<Value> slice(const Value& object, const Value& start, const Value& stop, const Value& step, Arena* arena);
Status set_attribute(const Value& object, const Value& name, const Value& value, Arena* arena);
Status append(const Value& builder, const Value& value, Arena* arena);
// What a loop over it gives: elements, keys, characters.
Result<Value> as_list(const Value& v, Arena* arena);

// Characters of a text, elements of a list, keys of a dict.
size_t length(const Value& v);
// Bytes of the first character, of any bytes.
size_t character_size(const char* text, size_t size);
// Position of b in a from `from` on, or size_t(-1).
size_t find_text(const Value& a, const Value& b, size_t from);

// Calls built-in `number` with `count` arguments. now: seconds since 1970 for strftime_now, 0: the clock.
Result<Value> call_builtin(uint32_t number, const Value* arguments, uint32_t count, int64_t now, Arena* arena);

}  // namespace runnel::chat
