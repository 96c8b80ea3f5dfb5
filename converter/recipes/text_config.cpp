#include "converter/recipes/text_config.h"

namespace runnel::convert {

TextConfig read_text_config(Checkpoint& c, Naming& naming, const Json& defaults) {
  const Json& config = c.meta["config"];
  const auto text = config.find("text_config");
  TextConfig out;
  out.given = text != config.end() && text->is_object() ? *text : config;
  out.config = with_defaults(out.given, defaults);
  out.is_tied = outer_facts(c).boolean("tie_word_embeddings", out.facts(c).boolean("tie_word_embeddings", true));
  for (const char* prefix : {"language_model.model.", "model.language_model."})
    if (c.has(prefix + std::string("embed_tokens.weight"))) naming.root = prefix;
  if (naming.root == "language_model.model.") naming.renamed["/lm_head"] = "/language_model.lm_head";
  return out;
}

}  // namespace runnel::convert
