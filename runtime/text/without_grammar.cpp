// In place of grammar*.cpp and token_order.cpp in a library that was built without grammars: none can be made, so
// nothing else here is ever reached.
#include "text/grammar.h"

namespace runnel {
namespace {

Status refusal() {
  return Status::make(Code::kUnsupported, "this library was built without grammars (RUNNEL_GRAMMAR)");
}

}  // namespace

Status TokenOrder::build(const Tokenizer&, TokenOrder*) { return refusal(); }
Result<std::unique_ptr<Grammar>> Grammar::create(const TokenOrder&, const char*, size_t) { return refusal(); }
void Grammar::start(GrammarPosition*) const {}
Result<bool> Grammar::allows(const GrammarPosition&, int32_t) { return refusal(); }
Status Grammar::accept(GrammarPosition*, int32_t) { return refusal(); }
Result<int32_t> Grammar::list(const GrammarPosition&, int32_t*, bool) { return refusal(); }
Status Grammar::mask(const GrammarPosition&, float*, int32_t) { return refusal(); }

}  // namespace runnel
