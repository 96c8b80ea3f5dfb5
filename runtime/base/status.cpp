#include "base/status.h"

#include <cstdio>
#include <cstring>

namespace runnel {
namespace {

std::unique_ptr<char[]> format_message(const char* prefix, const char* suffix, const char* fmt, va_list args) {
  va_list copy;
  va_copy(copy, args);
  const int n = std::vsnprintf(nullptr, 0, fmt, copy);
  va_end(copy);
  if (n < 0) return nullptr;
  const size_t head = std::strlen(prefix), tail = std::strlen(suffix);
  std::unique_ptr<char[]> out(new (std::nothrow) char[head + size_t(n) + tail + 1]);
  if (!out) return nullptr;
  std::memcpy(out.get(), prefix, head);
  std::vsnprintf(out.get() + head, size_t(n) + 1, fmt, args);
  std::memcpy(out.get() + head + n, suffix, tail + 1);
  return out;
}

}  // namespace

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidArgument: return "invalid argument";
    case Code::kNotFound: return "not found";
    case Code::kIo: return "input/output error";
    case Code::kInvalidModel: return "invalid model";
    case Code::kUnsupported: return "unsupported";
    case Code::kOutOfMemory: return "out of memory";
    case Code::kBudgetExceeded: return "memory budget exceeded";
    case Code::kContextFull: return "context full";
    case Code::kCancelled: return "cancelled";
    case Code::kDeviceLost: return "device lost";
    case Code::kNonFinite: return "non-finite output";
    case Code::kRollbackRange: return "rollback out of range";
    case Code::kStateMismatch: return "state does not fit";
    case Code::kInternal: return "internal error";
  }
  return "unknown status";
}

Status Status::make(Code code, const char* fmt, ...) {
  Status s;
  s.code_ = code;
  va_list args;
  va_start(args, fmt);
  s.message_ = format_message("", "", fmt, args);
  va_end(args);
  return s;
}

Status Status::with_context(const char* fmt, ...) && {
  if (is_ok()) return std::move(*this);
  Status s;
  s.code_ = code_;
  va_list args;
  va_start(args, fmt);
  std::unique_ptr<char[]> where = format_message("", ": ", fmt, args);
  va_end(args);
  if (where) {
    const size_t a = std::strlen(where.get()), b = std::strlen(message());
    s.message_.reset(new (std::nothrow) char[a + b + 1]);
    if (s.message_) {
      std::memcpy(s.message_.get(), where.get(), a);
      std::memcpy(s.message_.get() + a, message(), b + 1);
    }
  }
  if (!s.message_) s.message_ = std::move(message_);
  return s;
}

}  // namespace runnel
