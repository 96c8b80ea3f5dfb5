// Rows of features in a prompt: another program of the model takes them in the place of a placeholder's id. To
// penalties and grammars each row is that id.
#pragma once

#include "text/generate.h"

namespace runnel {

class Features final : public PromptParts {
 public:
  Features(const rnl_features* list, size_t count) : list_(list), count_(count) {}
  // The ids hold the placeholder of each of the features once, in their order, with ids behind the last; and the model
  // takes the rows.
  Status check(Session& session, const int32_t* ids, size_t first, size_t count) const;
  // What fails is taken back as a whole where the states allow that; what was cancelled keeps its whole passes.
  Status feed(Session& session, const int32_t* ids, size_t first, size_t count, FeedFn feed,
              void* context) const override;

 private:
  Status feed_rows(Session& session, const int32_t* ids, size_t first, size_t* fed) const;
  const rnl_features* list_;
  size_t count_;
};

}  // namespace runnel
