// embed: one vector for each text.
#include <algorithm>
#include <cstdio>

#include "cli/call.h"
#include "cli/lines.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

std::vector<int32_t> given_ids(const json& line, size_t number) {
  const std::string where = "line " + std::to_string(number) + ": ids";
  if (!line["ids"].is_array()) throw Failure(where + " is no array");
  std::vector<int32_t> ids;
  for (const json& id : line["ids"]) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX)
      throw Failure(where + " holds " + (id.is_structured() ? "a list or an object" : json_text(id)));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

// Rows of hidden states at once. Where the program makes logits too, memory is planned for as many rows of those.
int64_t rows_at_once(const rnl::Model& model) { return model.programs().at(0).outputs > 1 ? kRowsPerBlock : kPass; }

}  // namespace

int cmd_embed(const Options& o) {
  Opened opened;
  open(o, &opened);
  const uint32_t flags = o.special ? uint32_t(RNL_TEXT_SPECIAL) : 0u;
  std::vector<std::vector<int32_t>> texts;
  size_t longest = 1;
  if (o.in.empty()) {
    texts.emplace_back();
    check(opened.model.tokenize(o.prompt, flags, &texts[0]));
  } else {
    for_each_line(o.in, [&](const json& line, size_t n) {
      texts.push_back(line.contains("ids") ? given_ids(line, n) : ids_of_line(opened.model, line, flags, n));
      if (texts.back().empty()) throw Failure("line " + std::to_string(n) + " has no tokens");
    });
    if (texts.empty()) throw Failure(o.in + ": no lines");
  }
  for (const auto& ids : texts) longest = std::max(longest, ids.size());
  // Without embeddings the call says why there are none.
  const size_t width = size_t(std::max(opened.model.info().embedding, 1));
  rnl_session_options so = session_options(o, int64_t(longest));
  so.rows = rows_at_once(opened.model);
  rnl::Session session;
  check(session.create(opened.model, so));
  Trace trace(o, session.get());
  rnl_embed_options eo{};
  eo.struct_size = sizeof eo;
  eo.pooling = o.pooling == "last"    ? RNL_POOLING_LAST
               : o.pooling == "mean"  ? RNL_POOLING_MEAN
               : o.pooling == "first" ? RNL_POOLING_FIRST
                                      : RNL_POOLING_OF_MODEL;
  eo.normalise = o.no_normalise ? -1 : 0;
  std::vector<float> vectors, one;
  Progress progress("embed", int64_t(texts.size()));
  for (const auto& ids : texts) {
    rnl::Status s = session.embed(ids, &one, width, &eo);
    if (s.code() == RNL_DEVICE_LOST) {
      tell(s.message());
      check(session.recover());
      s = session.embed(ids, &one, width, &eo);
    }
    check(s);
    vectors.insert(vectors.end(), one.begin(), one.end());
    progress.update(int64_t(vectors.size() / one.size()));
  }
  trace.finish();
  if (o.in.empty()) {
    for (size_t i = 0; i < vectors.size(); ++i) std::printf("%s%.9g", i ? ", " : "[", double(vectors[i]));
    std::printf("]\n");
    return 0;
  }
  SafetensorsWriter writer(
      o.out,
      {{"embeddings", RNL_F32, {int64_t(texts.size()), int64_t(width)}, nullptr, vectors.size() * sizeof(float)}});
  writer.write(0, 0, vectors.data(), vectors.size() * sizeof(float));
  writer.commit();
  return 0;
}

}  // namespace runnel::cli
