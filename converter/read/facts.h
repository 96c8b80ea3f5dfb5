// Typed access to a source's metadata with messages that name file and key. A JSON null counts as absent.
//
// The checkpoint remembers what was asked for, so that what a recipe does not know is refused instead of being ignored
// (refuse_unasked).
#pragma once

#include <map>
#include <optional>

#include "converter/read/checkpoint.h"

namespace runnel::convert {

struct GgufForm;

class Facts {
 public:
  // Keys are looked up as prefix + key in `tree`, which must stay alive.
  Facts(const Json& tree, std::string where, std::string prefix = "")
      : tree_(&tree), where_(std::move(where)), prefix_(std::move(prefix)) {}
  // Of a checkpoint's configuration: asked keys are remembered as path + prefix + key.
  Facts(const Json& tree, std::string where, std::string prefix, std::shared_ptr<AskedKeys> asked,
        std::string path = "")
      : tree_(&tree),
        where_(std::move(where)),
        prefix_(std::move(prefix)),
        asked_(std::move(asked)),
        path_(std::move(path)) {}

  const Json* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }
  // Stands there as null: the source says that there is none.
  bool is_null(const std::string& key) const;
  // Keys that have no effect beside others: taken note of, whatever they say.
  void pass_over(std::initializer_list<const char*> keys) const;
  // A switch that the recipe knows one way only: fails when it is there with another value.
  void expect(const std::string& key, const Json& value) const;
  // Required ones fail when absent. Integers must lie in low..high; numbers must be finite.
  int64_t integer(const std::string& key, int64_t low = 1, int64_t high = int64_t(1) << 30) const;
  int64_t integer(const std::string& key, int64_t low, int64_t high, int64_t otherwise) const;
  // `count` integers: an array of as many, or one that stands for all.
  std::vector<int64_t> integers(const std::string& key, size_t count, int64_t low = 1,
                                int64_t high = int64_t(1) << 30) const;
  double number(const std::string& key) const;
  // A null stands for 0, "none", and is refused where the default is another.
  double number(const std::string& key, double otherwise) const;
  bool boolean(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  // Facts of the object that stands under `key`, whose keys are then asked for one by one; none when absent, refused
  // when no object.
  std::optional<Facts> inside(const std::string& key) const;
  // Facts of entry i of a list of objects under `key`.
  Facts inside(const std::string& key, size_t i) const;
  // The same place with another tree; with these values; with them where keys are not there; with keys under other
  // names too.
  Facts with(Json tree) const;
  Facts with_values(const Json& values) const;
  Facts with_defaults(const Json& values) const;
  Facts renamed(const std::map<std::string, std::string>& names) const;
  // All that stands here.
  const Json& tree() const { return *tree_; }
  // A GGUF: keys are asked for by a configuration's names and written as the file has them.
  bool is_gguf() const { return spelling_ != nullptr; }
  // Of a configuration nothing; a GGUF, which knows no defaults, has to hold one of these keys.
  void stated_in_gguf(std::initializer_list<const char*> keys) const;
  std::string name_for_messages(const std::string& key) const { return where_ + ": " + prefix_ + spelled(key); }
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

 private:
  friend Facts gguf_facts(const Checkpoint& checkpoint, const GgufForm& form);
  using Spelling = std::map<std::string, std::string>;
  std::string spelled(const std::string& key) const;
  std::string name_of(const std::string& key) const { return path_ + prefix_ + spelled(key); }
  Json::const_iterator look_up(const std::string& key) const { return tree_->find(is_gguf() ? key : prefix_ + key); }

  const Json* tree_;
  std::shared_ptr<const Json> kept_;  // the tree, where it is nobody else's
  std::string where_, prefix_;
  std::shared_ptr<AskedKeys> asked_;
  std::string path_;
  std::shared_ptr<const Spelling> spelling_;
};

// general.architecture of a GGUF, model_type of a configuration; fails when it is missing.
std::string stated_architecture(const Checkpoint& checkpoint);
// The source says that the model has no head: the configuration names a class without one (Qwen3Model, not
// Qwen3ForCausalLM or GPT2LMHeadModel), or the tokens of a GGUF see those behind them.
bool names_base_class(const Checkpoint& checkpoint);

// config.json, or its text_config where there is one.
Facts config_facts(const Checkpoint& checkpoint);
// config.json itself, which may hold a text_config.
Facts outer_facts(const Checkpoint& checkpoint);

// How GGUFs of one family say what config.json says, beyond what all of them share (gguf_facts.cpp).
struct GgufForm {
  std::map<std::string, std::string> keys = {};  // a configuration's key -> that behind the architecture's name; empty:
                                                 // such files have none
  // What holds for files that leave it out, by a configuration's keys; those that begin with "gguf." tell how values
  // are stored, which no configuration says.
  Json says = Json::object();
};
// A GGUF read as if it were a configuration.
Facts gguf_facts(const Checkpoint& checkpoint, const GgufForm& form);
// That, or config_facts.
Facts source_facts(const Checkpoint& checkpoint, const GgufForm& form = {});

// Takes layers that guess further tokens out of the sizes and the tensors of a source, before a recipe sees them.
void leave_out_further_layers(Checkpoint& checkpoint);

// The configuration with the keys that it leaves out (or sets to null) taken from `defaults`.
Json with_defaults(const Json& config, Json defaults);

// Fails with the names of those keys of the configuration that nobody asked for, unless they are harmless
// (harmless.cpp).
void refuse_unasked(const Checkpoint& checkpoint);
// Whether a key with this value changes nothing of what a model computes.
bool is_harmless(const std::string& key, const Json& value);
// Tensors that are no part of what is computed: constants that older releases saved, and the towers of models for more
// than text.
void pass_over_harmless_tensors(Checkpoint& checkpoint);

}  // namespace runnel::convert
