// Status and Result: how every fallible call of the runtime reports. No exceptions, no abort.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace runnel {

// Same numbers as rnl_status_code in runnel.h; a unit test compares the two.
enum class Code : int32_t {
  kOk = 0,
  kInvalidArgument = 1,  // the caller's values: shapes, names, ranges
  kNotFound = 2,         // file, program, tensor
  kIo = 3,               // read, write, sync, rename
  kInvalidModel = 4,     // not a model, truncated, broken, hostile
  kUnsupported = 5,      // newer version, unknown operator or feature, no kernel
  kOutOfMemory = 6,
  kBudgetExceeded = 7,  // the message says how much is needed
  kContextFull = 8,
  kCancelled = 9,
  kDeviceLost = 10,
  kNonFinite = 11,      // an output holds NaN or infinity
  kRollbackRange = 12,  // further back than rollback_window
  kStateMismatch = 13,  // a saved state of another model or plan, or damaged
  kInternal = 14,
};

const char* code_name(Code code);

// A code and, when it is not ok, a message that names what and where. The ok path carries one null pointer.
// If memory for the message cannot be had, the code still arrives.
class [[nodiscard]] Status {
 public:
  Status() = default;
  static Status ok() { return {}; }
  [[gnu::format(printf, 2, 3)]] static Status make(Code code, const char* fmt, ...);

  bool is_ok() const { return code_ == Code::kOk; }
  explicit operator bool() const = delete;
  Code code() const { return code_; }
  const char* message() const { return message_ ? message_.get() : (is_ok() ? "" : code_name(code_)); }
  // Puts `where: ` before the message, for callers that know the file or operator.
  [[gnu::format(printf, 2, 3)]] Status with_context(const char* fmt, ...) &&;

 private:
  Code code_ = Code::kOk;
  std::unique_ptr<char[]> message_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : ok_(true) { new (&value_) T(std::move(value)); }                // NOLINT: implicit by design
  Result(Status status) : ok_(false) { new (&status_) Status(std::move(status)); }  // NOLINT
  Result(Result&& o) : ok_(o.ok_) {
    if (ok_) new (&value_) T(std::move(o.value_));
    else new (&status_) Status(std::move(o.status_));
  }
  Result& operator=(Result&&) = delete;
  ~Result() {
    if (ok_) value_.~T();
    else status_.~Status();
  }
  bool is_ok() const { return ok_; }
  T& value() { return value_; }
  const T& value() const { return value_; }
  Status take_status() { return ok_ ? Status() : std::move(status_); }

 private:
  bool ok_;
  union {
    T value_;
    Status status_;
  };
};

#define RNL_CONCAT_(a, b) a##b
#define RNL_CONCAT(a, b) RNL_CONCAT_(a, b)
// Returns the status of `expr` from the enclosing function unless it is ok.
#define RNL_TRY(expr)                   \
  do {                                  \
    ::runnel::Status rnl_s_ = (expr);   \
    if (!rnl_s_.is_ok()) return rnl_s_; \
  } while (0)
// Declares `var` with the value of the Result `expr`, or returns its status.
#define RNL_ASSIGN(var, expr)                                                                   \
  auto RNL_CONCAT(rnl_r_, __LINE__) = (expr);                                                   \
  if (!RNL_CONCAT(rnl_r_, __LINE__).is_ok()) return RNL_CONCAT(rnl_r_, __LINE__).take_status(); \
  auto var = std::move(RNL_CONCAT(rnl_r_, __LINE__).value())
// Fails with kInvalidArgument and a message unless `cond`.
#define RNL_CHECK_ARG(cond, ...)                                                               \
  do {                                                                                         \
    if (!(cond)) return ::runnel::Status::make(::runnel::Code::kInvalidArgument, __VA_ARGS__); \
  } while (0)

}  // namespace runnel
