// The filters, tests, methods and functions of chat templates.
#include <cstdio>
#include <cstring>
#include <ctime>

#include "text/chat_program.h"
#include "text/chat_values.h"
#include "text/utf8.h"

namespace runnel::chat {
namespace {

enum class Builtin : uint32_t {
#define RNL_CHAT_BUILTIN(number, name, fewest, most) k_##name = number,
#include "text/chat_ops.inc"
};

struct Row {
  const char* name;
  uint8_t fewest, most;
};
constexpr Row kRows[] = {
#define RNL_CHAT_BUILTIN(number, name, fewest, most) {#name, fewest, most},
#include "text/chat_ops.inc"
};
constexpr uint32_t kRowCount = sizeof kRows / sizeof kRows[0];

// What Python's str.isspace says of a character of `size` bytes.
bool is_space(const char* text, size_t size) {
  const auto* p = reinterpret_cast<const uint8_t*>(text);
  if (size == 1) return p[0] == ' ' || (p[0] >= 9 && p[0] <= 13) || (p[0] >= 28 && p[0] <= 31);
  if (size == 2) return p[0] == 0xC2 && (p[1] == 0x85 || p[1] == 0xA0);
  if (size != 3) return false;
  const unsigned c = (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
  return c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// chars null: white space.
bool is_stripped(const char* text, size_t size, const Value* chars) {
  return chars ? find_text(*chars, Value::string(text, size), 0) != size_t(-1) : is_space(text, size);
}

Value strip(const Value& v, const Value* chars, bool left, bool right) {
  size_t begin = 0, end = v.size;
  while (left && begin < end) {
    const size_t n = character_size(v.text + begin, end - begin);
    if (!is_stripped(v.text + begin, n, chars)) break;
    begin += n;
  }
  while (right && end > begin) {
    size_t n = 1;
    while (n < 4 && n < end - begin && (uint8_t(v.text[end - n]) & 0xC0) == 0x80) ++n;
    if (!is_stripped(v.text + end - n, n, chars)) break;
    end -= n;
  }
  return v.part(begin, end);
}

Status add_to(Vec<Value>* list, const Value& v, Arena* arena) {
  RNL_TRY(arena->step(16));
  return list->push(v);
}

Result<Value> list_of(const Vec<Value>& values, Arena* arena) {
  RNL_ASSIGN(items, arena->take_array<Value>(values.size()));
  if (values.size()) std::memcpy(items, values.data(), values.size() * sizeof(Value));
  return Value::list(items, values.size());
}

// limit below 0: as many parts as there are.
Result<Value> split(const Value& v, const Value* separator, int64_t limit, Arena* arena) {
  Vec<Value> parts;
  RNL_TRY(arena->step(v.size));
  if (separator) {
    if (separator->size == 0) return Status::make(Code::kInvalidArgument, "an empty separator");
    size_t begin = 0;
    for (size_t at; limit != 0 && (at = find_text(v, *separator, begin)) != size_t(-1); --limit) {
      RNL_TRY(add_to(&parts, v.part(begin, at), arena));
      begin = at + separator->size;
    }
    RNL_TRY(add_to(&parts, v.part(begin, v.size), arena));
    return list_of(parts, arena);
  }
  for (Value rest = strip(v, nullptr, true, false); rest.size; --limit) {
    size_t end = limit == 0 ? rest.size : 0;
    while (end < rest.size) {
      const size_t n = character_size(rest.text + end, rest.size - end);
      if (is_space(rest.text + end, n)) break;
      end += n;
    }
    RNL_TRY(add_to(&parts, limit == 0 ? strip(rest, nullptr, false, true) : rest.part(0, end), arena));
    rest = strip(rest.part(end, rest.size), nullptr, true, false);
  }
  return list_of(parts, arena);
}

Result<Value> replace(const Value& v, const Value& from, const Value& to, int64_t limit, Arena* arena) {
  TextBuilder out;
  size_t begin = 0;
  for (size_t at = 0; limit != 0; --limit) {
    at = find_text(v, from, at);
    if (at == size_t(-1)) break;
    RNL_TRY(arena->step(to.size + 16));
    RNL_TRY(out.add(v.part(begin, at)));
    RNL_TRY(out.add(to));
    begin = at + from.size;
    // Between all characters, when nothing is replaced.
    at = from.size ? begin : at < v.size ? at + character_size(v.text + at, v.size - at) : v.size + 1;
    if (out.size() > (size_t(64) << 20)) return Status::make(Code::kUnsupported, "a text of more than 64 MiB");
  }
  RNL_TRY(arena->step(v.size));
  RNL_TRY(out.add(v.part(begin, v.size)));
  return out.take_from(0, arena);
}

// kind: upper, lower, title, capitalize.
Result<Value> change_case(Builtin kind, bool words_as_filter, const Value& v, Arena* arena) {
  RNL_TRY(arena->step(v.size));
  RNL_ASSIGN(text, arena->take_array<char>(v.size));
  bool starts = true;
  for (size_t i = 0; i < v.size; ++i) {
    const char c = v.text[i];
    if (uint8_t(c) >= 0x80) return Status::make(Code::kUnsupported, "upper and lower case of letters beyond ASCII");
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool up = kind == Builtin::k_upper || (kind != Builtin::k_lower && starts);
    text[i] = !is_letter ? c : char(up ? c & ~0x20 : c | 0x20);
    if (kind == Builtin::k_title) starts = words_as_filter ? is_space(&c, 1) || std::strchr("-({[<", c) : !is_letter;
    else starts = false;
  }
  Value out = v;
  out.text = text;
  return out;
}

Status write_json(const Value& v, int depth, Arena* arena, TextBuilder* out) {
  if (depth > kMaxValueDepth) return Status::make(Code::kUnsupported, "lists nested more than %d deep", kMaxValueDepth);
  RNL_TRY(arena->step(v.size));
  const auto put = [&](const char* s) { return out->add(s, std::strlen(s), kTemplateTag); };
  switch (v.type) {
    case Type::kNone: return put("null");
    case Type::kBool: return put(v.integer ? "true" : "false");
    case Type::kInteger: {
      RNL_ASSIGN(text, as_text(v, arena));
      return out->add(text);
    }
    case Type::kText:
      RNL_TRY(put("\""));
      for (uint32_t i = 0; i < v.size; ++i) {
        const uint8_t c = uint8_t(v.text[i]);
        static const char kShort[] = "\"\"\\\\\nn\rr\tt\bb\ff";
        char escaped[8] = {'\\', 0};
        for (const char* e = kShort; *e; e += 2)
          if (uint8_t(*e) == c) escaped[1] = e[1];
        if (c < 0x20 && !escaped[1]) std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
        if (escaped[1]) RNL_TRY(out->add(escaped, std::strlen(escaped), v.tag_at(i)));
        else RNL_TRY(out->add(v.part(i, i + 1)));
      }
      return put("\"");
    case Type::kList:
    case Type::kDict: {
      const bool is_dict = v.is(Type::kDict);
      RNL_TRY(put(is_dict ? "{" : "["));
      for (uint32_t i = 0; i < v.size; ++i) {
        if (i) RNL_TRY(put(", "));
        if (is_dict) {
          if (!v.items[2 * i].is(Type::kText))
            return Status::make(Code::kUnsupported, "JSON of a key that is %s", type_name(v.items[2 * i].type));
          RNL_TRY(write_json(v.items[2 * i], depth + 1, arena, out));
          RNL_TRY(put(": "));
        }
        RNL_TRY(write_json(v.items[is_dict ? 2 * i + 1 : i], depth + 1, arena, out));
      }
      return put(is_dict ? "}" : "]");
    }
    default: return Status::make(Code::kInvalidArgument, "JSON of %s", type_name(v.type));
  }
}

Result<Value> join(const Value& v, const Value& separator, Arena* arena) {
  RNL_ASSIGN(list, as_list(v, arena));
  RNL_ASSIGN(between, as_text(separator, arena));
  TextBuilder out;
  for (uint32_t i = 0; i < list.size; ++i) {
    if (i) RNL_TRY(out.add(between));
    RNL_ASSIGN(text, as_text(list.items[i], arena));
    RNL_TRY(arena->step(size_t(text.size) + between.size));
    RNL_TRY(out.add(text));
  }
  return out.take_from(0, arena);
}

Result<Value> parts_of_dict(Builtin what, const Value& v, Arena* arena) {
  if (!v.is(Type::kDict) && !(what == Builtin::k_items && v.is(Type::kUndefined)))
    return Status::make(Code::kInvalidArgument, "the keys and values of %s", type_name(v.type));
  RNL_TRY(arena->step(v.size));
  RNL_ASSIGN(items, arena->take_array<Value>(v.size));
  for (uint32_t i = 0; i < v.size; ++i)
    items[i] =
        what == Builtin::k_items ? Value::list(v.items + 2 * i, 2) : v.items[2 * i + (what == Builtin::k_values)];
  return Value::list(items, v.size);
}

// By key, text without regard to case.
Result<Value> sorted_items(const Value& v, Arena* arena) {
  if (!v.is(Type::kDict)) return Status::make(Code::kInvalidArgument, "dictsort of %s", type_name(v.type));
  RNL_ASSIGN(items, parts_of_dict(Builtin::k_items, v, arena));
  auto* rows = const_cast<Value*>(items.items);
  const auto key = [&](const Value& row) -> Result<Value> {
    return row.items[0].is(Type::kText) ? change_case(Builtin::k_lower, false, row.items[0], arena)
                                        : Result<Value>(row.items[0]);
  };
  for (uint32_t i = 1; i < items.size; ++i)
    for (uint32_t k = i; k > 0; --k) {
      RNL_ASSIGN(a, key(rows[k - 1]));
      RNL_ASSIGN(b, key(rows[k]));
      RNL_ASSIGN(order, compare(a, b));
      if (order <= 0) break;
      const Value row = rows[k];
      rows[k] = rows[k - 1];
      rows[k - 1] = row;
    }
  return items;
}

Result<Value> format_text(const Value* a, uint32_t count, Arena* arena) {
  if (!a[0].is(Type::kText)) return Status::make(Code::kInvalidArgument, "format of %s", type_name(a[0].type));
  RNL_TRY(arena->step(a[0].size));
  TextBuilder out;
  uint32_t next = 1, i = 0;
  while (i < a[0].size) {
    const char c = a[0].text[i];
    const char after = i + 1 < a[0].size ? a[0].text[i + 1] : 0;
    if (c == '{' && after == '}') {
      if (next >= count) return Status::make(Code::kInvalidArgument, "format of too few values");
      RNL_ASSIGN(text, as_text(a[next++], arena));
      RNL_TRY(arena->step(text.size));
      RNL_TRY(out.add(text));
      i += 2;
      continue;
    }
    const bool is_brace = c == '{' || c == '}';
    if (is_brace && after != c) return Status::make(Code::kUnsupported, "format with more than {}");
    RNL_TRY(out.add(a[0].part(i, i + 1)));
    i += is_brace ? 2 : 1;
  }
  return out.take_from(0, arena);
}

Result<Value> integer_of(const Value& v, const Value& otherwise) {
  if (v.is_integer()) return Value::number(v.integer);
  if (!v.is(Type::kText)) return otherwise;
  const Value t = strip(v, nullptr, true, true);
  int64_t n = 0;
  size_t i = t.size && (t.text[0] == '-' || t.text[0] == '+') ? 1 : 0;
  bool good = i < t.size;
  for (; i < t.size && t.text[i] != '.'; ++i)
    good = good && t.text[i] >= '0' && t.text[i] <= '9' && !__builtin_mul_overflow(n, int64_t(10), &n) &&
           !__builtin_add_overflow(n, int64_t(t.text[i] - '0'), &n);
  for (++i; i < t.size; ++i) good = good && t.text[i] >= '0' && t.text[i] <= '9';
  return good ? Value::number(t.text[0] == '-' ? -n : n) : otherwise;
}

Result<Value> range(const Value* a, uint32_t count, Arena* arena) {
  for (uint32_t i = 0; i < count; ++i)
    if (!a[i].is_integer()) return Status::make(Code::kInvalidArgument, "a range of %s", type_name(a[i].type));
  const int64_t begin = count > 1 ? a[0].integer : 0, end = a[count > 1].integer, by = count > 2 ? a[2].integer : 1;
  if (by == 0) return Status::make(Code::kInvalidArgument, "a range with step 0");
  Vec<Value> values;
  for (int64_t i = begin; by > 0 ? i < end : i > end;) {
    RNL_TRY(add_to(&values, Value::number(i), arena));
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  return list_of(values, arena);
}

Result<Value> formatted_time(const Value& format, int64_t now, Arena* arena) {
  char pattern[128], text[256];
  if (format.size >= sizeof pattern)
    return Status::make(Code::kUnsupported, "a format of time with %u characters", format.size);
  std::memcpy(pattern, format.text, format.size);
  pattern[format.size] = 0;
  const time_t t = now ? time_t(now) : std::time(nullptr);
  struct tm parts {};
  if (!localtime_r(&t, &parts)) return Status::make(Code::kInvalidArgument, "the time %lld", static_cast<long long>(t));
  TextBuilder out;
  RNL_TRY(out.add(text, std::strftime(text, sizeof text, pattern, &parts), kTemplateTag));
  return out.take_from(0, arena);
}

Result<Value> test(Builtin what, const Value* a) {
  const Value& v = a[0];
  const bool is_undefined = v.is(Type::kUndefined) || v.is(Type::kMissing),
             is_sequence = is_undefined || v.is(Type::kText) || v.is(Type::kList) || v.is(Type::kDict);
  switch (what) {
    case Builtin::k_is_defined: return Value::boolean(!is_undefined);
    case Builtin::k_is_none: return Value::boolean(v.is(Type::kNone));
    case Builtin::k_is_string: return Value::boolean(v.is(Type::kText));
    case Builtin::k_is_mapping: return Value::boolean(v.is(Type::kDict));
    case Builtin::k_is_iterable:
    case Builtin::k_is_sequence: return Value::boolean(is_sequence);
    case Builtin::k_is_number: return Value::boolean(v.is_integer());
    case Builtin::k_is_integer: return Value::boolean(v.is(Type::kInteger));
    case Builtin::k_is_boolean: return Value::boolean(v.is(Type::kBool));
    case Builtin::k_is_true: return Value::boolean(v.is(Type::kBool) && v.integer);
    case Builtin::k_is_false: return Value::boolean(v.is(Type::kBool) && !v.integer);
    default: break;
  }
  if (!v.is_integer()) return Status::make(Code::kInvalidArgument, "whether %s is odd or even", type_name(v.type));
  if (what != Builtin::k_is_divisible) return Value::boolean((v.integer % 2 != 0) == (what == Builtin::k_is_odd));
  if (!a[1].is_integer() || a[1].integer == 0)
    return Status::make(Code::kInvalidArgument, "divisible by %s", a[1].is_integer() ? "zero" : type_name(a[1].type));
  return Value::boolean(a[1].integer == -1 || v.integer % a[1].integer == 0);
}

bool is_absent(const Value& v) { return v.is(Type::kNone) || v.is(Type::kUndefined); }

// Those whose first argument is a text.
Result<Value> call_on_text(Builtin what, const Value* a, uint32_t count, Arena* arena) {
  const Value& v = a[0];
  int64_t limit = -1;
  if (what == Builtin::k_split || what == Builtin::k_replace) {
    const Value* given = count > (what == Builtin::k_split ? 2u : 3u) ? &a[count - 1] : nullptr;
    if (given && !is_absent(*given)) {
      if (!given->is_integer())
        return Status::make(Code::kInvalidArgument, "a count that is %s", type_name(given->type));
      limit = given->integer;
    }
    if (count > 3) --count;
  }
  for (uint32_t i = 0; i < count; ++i)
    if (!a[i].is(Type::kText) && (i == 0 || !is_absent(a[i])) && !(what == Builtin::k_title && i) &&
        !(what == Builtin::k_split && i == 2))
      return Status::make(Code::kInvalidArgument, "%s with %s", kRows[uint32_t(what)].name, type_name(a[i].type));
  const Value* second = count > 1 && a[1].is(Type::kText) ? &a[1] : nullptr;
  const bool needs_second = what == Builtin::k_startswith || what == Builtin::k_endswith || what == Builtin::k_find ||
                            what == Builtin::k_count || what == Builtin::k_replace;
  if (needs_second && (!second || (what == Builtin::k_replace && !a[2].is(Type::kText))))
    return Status::make(Code::kInvalidArgument, "%s with none", kRows[uint32_t(what)].name);
  RNL_TRY(arena->step(v.size));
  switch (what) {
    case Builtin::k_strip: return strip(v, second, true, true);
    case Builtin::k_lstrip: return strip(v, second, true, false);
    case Builtin::k_rstrip: return strip(v, second, false, true);
    case Builtin::k_split: return split(v, second, limit, arena);
    case Builtin::k_startswith:
      return Value::boolean(v.size >= second->size && std::memcmp(v.text, second->text, second->size) == 0);
    case Builtin::k_endswith:
      return Value::boolean(v.size >= second->size &&
                            std::memcmp(v.text + v.size - second->size, second->text, second->size) == 0);
    case Builtin::k_replace: return replace(v, *second, a[2], limit, arena);
    case Builtin::k_find: {
      const size_t at = find_text(v, *second, 0);
      return Value::number(at == size_t(-1) ? -1 : int64_t(length(v.part(0, at))));
    }
    case Builtin::k_count: {
      int64_t n = 0;
      if (second->size == 0) return Value::number(int64_t(length(v)) + 1);
      for (size_t at = 0; (at = find_text(v, *second, at)) != size_t(-1); at += second->size) ++n;
      return Value::number(n);
    }
    default: return change_case(what, count > 1, v, arena);
  }
}

}  // namespace

Result<Value> call_builtin(uint32_t number, const Value* a, uint32_t count, int64_t now, Arena* arena) {
  if (number >= kRowCount)
    return Status::make(Code::kInvalidModel, "the program is broken: it calls the unknown built-in %u", number);
  const Row& row = kRows[number];
  if (count < row.fewest || count > row.most)
    return Status::make(Code::kInvalidModel, "the program is broken: %u arguments of %s", count, row.name);
  const Builtin what = Builtin(number);
  if (what == Builtin::k_dictsort) return sorted_items(a[0], arena);
  if (what == Builtin::k_format) return format_text(a, count, arena);
  if (what >= Builtin::k_is_defined) return test(what, a);
  if (what >= Builtin::k_strip && what <= Builtin::k_count) return call_on_text(what, a, count, arena);
  const Value& v = a[0];
  switch (what) {
    case Builtin::k_text: return as_text(v, arena);
    case Builtin::k_length:
      if (!v.is(Type::kText) && !v.is(Type::kList) && !v.is(Type::kDict) && !v.is(Type::kUndefined))
        return Status::make(Code::kInvalidArgument, "the length of %s", type_name(v.type));
      RNL_TRY(arena->step(v.size));
      return Value::number(int64_t(length(v)));
    case Builtin::k_default: {
      const bool is_missing = v.is(Type::kUndefined) || v.is(Type::kMissing);
      return is_missing || (count > 2 && a[2].truth() && !v.truth()) ? (count > 1 ? a[1] : Value::string("", 0)) : v;
    }
    case Builtin::k_first:
    case Builtin::k_last: {
      if (v.is(Type::kText)) return element(v, Value::number(what == Builtin::k_first ? 0 : -1), arena);
      RNL_ASSIGN(list, as_list(v, arena));
      return list.size ? list.items[what == Builtin::k_first ? 0 : list.size - 1] : Value();
    }
    case Builtin::k_join: return join(v, count > 1 ? a[1] : Value(), arena);
    case Builtin::k_items:
    case Builtin::k_keys:
    case Builtin::k_values: return parts_of_dict(what, v, arena);
    case Builtin::k_list: return as_list(v, arena);
    case Builtin::k_int: return integer_of(v, count > 1 ? a[1] : Value::number(0));
    case Builtin::k_tojson: {
      TextBuilder out;
      RNL_TRY(write_json(v, 0, arena, &out));
      return out.take_from(0, arena);
    }
    case Builtin::k_get: {
      if (!v.is(Type::kDict)) return Status::make(Code::kInvalidArgument, "get of %s", type_name(v.type));
      RNL_ASSIGN(present, contains(a[1], v, arena));
      return present ? element(v, a[1], arena) : Result<Value>(count > 2 ? a[2] : Value::of(Type::kNone));
    }
    case Builtin::k_range: return range(a, count, arena);
    case Builtin::k_namespace: {
      RNL_ASSIGN(g, arena->take_array<Growing>(1));
      *g = {};
      Value made = Value::of(Type::kNamespace);
      made.growing = g;
      for (uint32_t i = 0; v.is(Type::kDict) && i < v.size; ++i)
        RNL_TRY(set_attribute(made, v.items[2 * i], v.items[2 * i + 1], arena));
      return made;
    }
    case Builtin::k_raise_exception: {
      RNL_ASSIGN(message, as_text(v, arena));
      return Status::make(Code::kInvalidArgument, "%.*s", int(message.size < 400 ? message.size : 400), message.text);
    }
    default:
      if (!v.is(Type::kText))
        return Status::make(Code::kInvalidArgument, "a format of time that is %s", type_name(v.type));
      return formatted_time(v, now, arena);
  }
}

}  // namespace runnel::chat
