#include "converter/program/size.h"

#include <algorithm>

#include "converter/base/error.h"

namespace runnel::convert {
namespace {

int64_t checked_add(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) fail("a size of the graph is out of range");
  return r;
}
int64_t checked_mul(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) fail("a size of the graph is out of range");
  return r;
}
int64_t floor_quotient(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

constexpr size_t kMaxTerms = 64;

}  // namespace

Size Size::symbol(const std::string& name) {
  Size s;
  s.terms_[{name}] = 1;
  return s;
}

Size Size::operator+(const Size& o) const {
  Size r = *this;
  r.constant_ = checked_add(r.constant_, o.constant_);
  for (const auto& [factors, n] : o.terms_) {
    int64_t& to = r.terms_[factors];
    to = checked_add(to, n);
    if (to == 0) r.terms_.erase(factors);
  }
  if (r.terms_.size() > kMaxTerms) fail("a size of the graph has too many terms");
  return r;
}

Size Size::operator*(const Size& o) const {
  Size r = checked_mul(constant_, o.constant_);
  const auto add = [&r](const Factors& f, int64_t n) {
    Size one;
    if (n != 0) one.terms_[f] = n;
    r = r + one;
  };
  for (const auto& [f, n] : terms_) add(f, checked_mul(n, o.constant_));
  for (const auto& [f, n] : o.terms_) add(f, checked_mul(n, constant_));
  for (const auto& [f, n] : terms_)
    for (const auto& [g, m] : o.terms_) {
      Factors both = f;
      both.insert(both.end(), g.begin(), g.end());
      std::sort(both.begin(), both.end());
      add(both, checked_mul(n, m));
    }
  return r;
}

void Size::split(int64_t n, Size* quotient, Size* rest) const {
  *rest = 0;
  *quotient = floor_quotient(constant_, n);
  rest->constant_ = constant_ - quotient->constant_ * n;
  for (const auto& [f, k] : terms_)
    if (k % n == 0) quotient->terms_[f] = k / n;
    else rest->terms_[f] = k;
}

Size Size::call(const char* function, const Size& o) const {
  return symbol(std::string(function) + "(" + text() + "," + o.text() + ")");
}

Size Size::floordiv(const Size& o) const {
  if (const auto exact = divided_by(o)) return *exact;
  if (!o.is_constant()) return call("floordiv", o);
  if (o.constant_ <= 0) fail("a size of the graph is divided by %lld", static_cast<long long>(o.constant_));
  Size quotient, rest;
  split(o.constant_, &quotient, &rest);
  return rest.is_constant() ? quotient : quotient + rest.call("floordiv", o);
}

Size Size::ceildiv(const Size& o) const {
  return o.is_constant() ? (*this + Size(o.constant_ - 1)).floordiv(o) : call("ceildiv", o);
}

Size Size::mod(const Size& o) const {
  if (divided_by(o)) return 0;
  if (!o.is_constant()) return call("mod", o);
  if (o.constant_ <= 0) fail("a size of the graph is divided by %lld", static_cast<long long>(o.constant_));
  Size quotient, rest;
  split(o.constant_, &quotient, &rest);
  return rest.is_constant() ? rest : rest.call("mod", o);
}

Size Size::bound(const char* function, const Size& o) const {
  if (*this == o) return *this;
  const bool is_min = function[1] == 'i';
  const Size difference = *this - o;
  if (difference.is_constant()) return (difference.constant_ < 0) == is_min ? *this : o;
  return call(function, o);
}

std::optional<Size> Size::divided_by(const Size& o) const {
  if (o.is_constant()) {
    if (o.constant_ == 0) return std::nullopt;
    Size quotient, rest;
    split(o.constant_, &quotient, &rest);
    if (rest.is(0)) return quotient;
    return std::nullopt;
  }
  if (*this == o) return Size(1);
  if (o.constant_ != 0 || o.terms_.size() != 1 || constant_ != 0) return std::nullopt;
  const auto& [factors, n] = *o.terms_.begin();
  Size out;
  for (const auto& [f, k] : terms_) {
    if (k % n != 0 || !std::includes(f.begin(), f.end(), factors.begin(), factors.end())) return std::nullopt;
    Factors left;
    std::set_difference(f.begin(), f.end(), factors.begin(), factors.end(), std::back_inserter(left));
    if (left.empty()) out.constant_ = k / n;
    else out.terms_[left] = k / n;
  }
  return out;
}

std::string Size::text() const {
  std::string plus, minus;
  for (const auto& [factors, n] : terms_) {
    std::string term = n == 1 || n == -1 ? "" : std::to_string(n < 0 ? -n : n);
    for (const std::string& f : factors) term += (term.empty() ? "" : "*") + f;
    if (n > 0) plus += (plus.empty() ? "" : "+") + term;
    else minus += "-" + term;
  }
  if (constant_ > 0 || terms_.empty())
    plus += (plus.empty() ? "" : "+") + (constant_ < 0 ? "0" : std::to_string(constant_));
  if (constant_ < 0) minus += std::to_string(constant_);
  return (plus.empty() ? "0" : plus) + minus;
}

Size product(const Sizes& sizes) {
  Size n = 1;
  for (const Size& s : sizes) n = n * s;
  return n;
}

std::string text(const Sizes& sizes) {
  std::string out;
  for (const Size& s : sizes) out += (out.empty() ? "" : ", ") + s.text();
  return "[" + out + "]";
}

}  // namespace runnel::convert
