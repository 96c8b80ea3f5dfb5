#include "converter/recipes/text_config.h"

namespace runnel::convert {

TextConfig read_text_config(Checkpoint& c, Naming& naming, const Json& defaults) {
  const Json& config = c.meta["config"];
  const std::string file = c.path.string() + "/config.json";
  const auto text = config.find("text_config");
  const bool is_nested = text != config.end() && text->is_object();
  TextConfig out;
  out.given = is_nested ? *text : config;
  out.config = with_defaults(out.given, defaults);
  out.where = file + (is_nested ? ": text_config" : "");
  out.is_tied = Facts(config, file).boolean("tie_word_embeddings", Facts(out.config, out.where).boolean("tie_word_embeddings", true));
  for (const char* prefix : {"language_model.model.", "model.language_model."})
    if (c.has(prefix + std::string("embed_tokens.weight"))) naming.root = prefix;
  if (naming.root == "language_model.model.") naming.renamed["/lm_head"] = "/language_model.lm_head";
  c.leave_out({"vision_tower.", "multi_modal_projector.", "embed_vision.", "vision_embedder."}, "the vision tower");
  c.leave_out({"audio_tower.", "embed_audio."}, "the audio tower");
  c.ignore_containing("rotary_emb");
  if (out.is_tied) c.ignore_containing("lm_head.weight");
  return out;
}

}  // namespace runnel::convert
