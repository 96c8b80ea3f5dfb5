// Sizes of a graph: integers, or polynomials over symbols whose values a call gives. Two that are equal have the same
// normal form, so that shapes can be compared and divided while nothing is known of the call.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace runnel::convert {

class Size {
 public:
  Size(int64_t n = 0) : constant_(n) {}
  static Size symbol(const std::string& name);

  bool is_constant() const { return terms_.empty(); }
  int64_t constant() const { return constant_; }
  bool is(int64_t n) const { return is_constant() && constant_ == n; }
  bool operator==(const Size& o) const = default;

  // Throw Error beyond 64 bits.
  Size operator+(const Size& o) const;
  Size operator-(const Size& o) const { return *this + o * Size(-1); }
  Size operator*(const Size& o) const;
  // Rounded down, and up. The divisor of a call must be positive.
  Size floordiv(const Size& o) const;
  Size ceildiv(const Size& o) const;
  Size mod(const Size& o) const;
  Size min(const Size& o) const { return bound("min", o); }
  Size max(const Size& o) const { return bound("max", o); }
  // The quotient where nothing can be left over.
  std::optional<Size> divided_by(const Size& o) const;

  // As a size expression of the model file (format/expr.h).
  std::string text() const;

 private:
  // Factors in rising order, some of them perhaps twice: symbols, or calls such as floordiv(h,2).
  using Factors = std::vector<std::string>;
  Size bound(const char* function, const Size& o) const;
  Size call(const char* function, const Size& o) const;
  // Splits off the terms that n divides.
  void split(int64_t n, Size* quotient, Size* rest) const;

  int64_t constant_;
  std::map<Factors, int64_t> terms_;
};

using Sizes = std::vector<Size>;
Size product(const Sizes& sizes);
std::string text(const Sizes& sizes);  // "[batch, 3, 224, 224]"

}  // namespace runnel::convert
