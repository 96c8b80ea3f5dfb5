#include "converter/recipes/text_config.h"

namespace runnel::convert {

Facts text_facts(Checkpoint& c, Naming& naming, const Json& defaults, const GgufForm& form) {
  const Facts f = source_facts(c, form);
  if (f.is_gguf()) return f;
  Json config = with_defaults(f.tree(), defaults);
  config["tie_word_embeddings"] =
      outer_facts(c).boolean("tie_word_embeddings", f.with(config).boolean("tie_word_embeddings", true));
  for (const char* prefix : {"language_model.model.", "model.language_model."})
    if (c.has(prefix + std::string("embed_tokens.weight"))) naming.root = prefix;
  if (naming.root == "language_model.model.") naming.renamed["/lm_head"] = "/language_model.lm_head";
  return f.with(std::move(config));
}

}  // namespace runnel::convert
