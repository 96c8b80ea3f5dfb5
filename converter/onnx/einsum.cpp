// Einsum: sums of products named by letters, two operands at a time, each as one product of matrices.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

// A value whose axes have letters; '\1' and on stand for those of an ellipsis.
struct Lettered {
  Value v;
  std::string axes;
};

bool holds(const std::string& letters, char c) { return letters.find(c) != std::string::npos; }

std::string without_spaces(const std::string& text) {
  std::string out;
  for (char c : text)
    if (c != ' ') out += c;
  return out;
}

// Letters of a term where an ellipsis stands for `hidden` axes, the last ones of it in every term the same.
std::string spelt_out(const std::string& term, int hidden, int most_hidden) {
  std::string out;
  for (size_t i = 0; i < term.size(); ++i) {
    if (term[i] != '.') {
      const bool is_letter = (term[i] >= 'a' && term[i] <= 'z') || (term[i] >= 'A' && term[i] <= 'Z');
      if (!is_letter) fail("the equation's term \"%s\"", printable(term).c_str());
      out += term[i];
      continue;
    }
    if (term.compare(i, 3, "...") != 0 || holds(out, char(most_hidden)))
      fail("the equation's term \"%s\"", printable(term).c_str());
    for (int k = most_hidden - hidden; k < most_hidden; ++k) out += char(k + 1);
    i += 2;
  }
  return out;
}

Value transposed(Lowering& l, const Lettered& from, const std::string& to) {
  Perm perm;
  for (char c : to) perm.push_back(int(from.axes.find(c)));
  return l.transpose(from.v, perm);
}

Size size_of(const Lettered& t, const std::string& letters) {
  Size n = 1;
  for (char c : letters) n = n * t.v.shape[t.axes.find(c)];
  return n;
}

// Axes that nobody needs are summed up; an axis that stands twice is not read.
Lettered only(Lowering& l, Lettered t, const std::string& needed) {
  std::vector<bool> gone;
  std::string left;
  for (char c : t.axes) {
    if (std::count(t.axes.begin(), t.axes.end(), c) > 1) fail("a letter stands twice in one term");
    gone.push_back(!holds(needed, c));
    if (!gone.back()) left += c;
  }
  if (left.size() != t.axes.size()) t.v = reduced(l, format::ReduceKind::sum, t.v, gone);
  t.axes = left;
  return t;
}

// The product of two, summed over the letters that neither the result nor a later term needs.
Lettered contracted(Lowering& l, Lettered a, Lettered b, const std::string& needed) {
  a = only(l, a, needed + b.axes), b = only(l, b, needed + a.axes);
  std::string both, summed, of_a, of_b;
  for (char c : a.axes) (!holds(b.axes, c) ? of_a : holds(needed, c) ? both : summed) += c;
  for (char c : b.axes)
    if (!holds(a.axes, c)) of_b += c;
  for (char c : both + summed) {
    const Size &x = a.v.shape[a.axes.find(c)], &y = b.v.shape[b.axes.find(c)];
    if (!(x == y)) fail("an axis is %s and %s", x.text().c_str(), y.text().c_str());
  }
  Value x = transposed(l, a, both + of_a + summed), y = transposed(l, b, both + summed + of_b);
  Sizes rows, left, right;
  for (char c : both) rows.push_back(a.v.shape[a.axes.find(c)]);
  left = rows, right = rows;
  left.push_back(size_of(a, of_a)), left.push_back(size_of(a, summed));
  right.push_back(size_of(b, summed)), right.push_back(size_of(b, of_b));
  Value product = multiplied(l, l.reshape(x, left), l.reshape(y, right));
  Sizes shape = rows;
  for (char c : of_a) shape.push_back(a.v.shape[a.axes.find(c)]);
  for (char c : of_b) shape.push_back(b.v.shape[b.axes.find(c)]);
  return {l.reshape(product, shape), both + of_a + of_b};
}

}  // namespace

void lower_einsum(Lowering& l, const Node& n) {
  const std::string equation = without_spaces(n.text("equation", ""));
  const size_t arrow = equation.find("->");
  std::string left = equation.substr(0, arrow), right = arrow == equation.npos ? "" : equation.substr(arrow + 2);
  std::vector<std::string> terms(1);
  for (char c : left) {
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  }
  if (terms.size() != n.inputs()) fail("the equation has %zu terms, the node %zu inputs", terms.size(), n.inputs());
  int most_hidden = 0;
  std::vector<int> hidden;
  for (size_t i = 0; i < terms.size(); ++i) {
    const bool has = terms[i].find("...") != terms[i].npos;
    hidden.push_back(has ? n.in(i).rank() - int(terms[i].size() - 3) : 0);
    if (hidden[i] < 0 || hidden[i] > kMaxRank)
      fail("the term \"%s\" of %s", terms[i].c_str(), text(n.in(i).shape).c_str());
    most_hidden = std::max(most_hidden, hidden[i]);
  }
  std::vector<Lettered> list;
  for (size_t i = 0; i < terms.size(); ++i) {
    Lettered t = {l.cast(n.in(i), Elem::kFloat), spelt_out(terms[i], hidden[i], most_hidden)};
    if (n.in(i).elem != Elem::kFloat) fail("of integers");
    if (int(t.axes.size()) != t.v.rank()) fail("the term \"%s\" of %s", terms[i].c_str(), text(t.v.shape).c_str());
    list.push_back(t);
  }
  std::string result;
  if (arrow != equation.npos) {
    result = spelt_out(right, most_hidden, most_hidden);
  } else {  // letters that stand once, in the alphabet's order, behind the ellipsis
    std::string all;
    for (const Lettered& t : list) all += t.axes;
    std::string once;
    for (char c : all)
      if (c > most_hidden && std::count(all.begin(), all.end(), c) == 1) once += c;
    std::sort(once.begin(), once.end());
    for (int k = 0; k < most_hidden; ++k) result += char(k + 1);
    result += once;
  }
  Lettered t = list[0];
  for (size_t i = 1; i < list.size(); ++i) {
    std::string needed = result;
    for (size_t k = i + 1; k < list.size(); ++k) needed += list[k].axes;
    t = contracted(l, t, list[i], needed);
  }
  t = only(l, t, result);
  for (char c : result)
    if (!holds(t.axes, c) || std::count(result.begin(), result.end(), c) > 1)
      fail("the equation \"%s\"", equation.c_str());
  n.set(transposed(l, t, result));
}

}  // namespace runnel::convert
