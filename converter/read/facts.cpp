#include "converter/read/facts.h"

#include <cmath>

namespace runnel::convert {
namespace {

// Texts of a GGUF may be no UTF-8.
std::string shown(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

constexpr const char* kFile = "/config.json";

// A lone file of tensors has none.
const Json& configuration(const Checkpoint& c) {
  static const Json kNothing = Json::object();
  const auto config = c.meta.find("config");
  return config == c.meta.end() ? kNothing : *config;
}

}  // namespace

const Json* Facts::find(const std::string& key) const {
  if (asked_) asked_->keys.insert(name_of(key));
  const auto it = look_up(key);
  return it == tree_->end() || it->is_null() ? nullptr : &*it;
}

bool Facts::is_null(const std::string& key) const {
  const auto it = look_up(key);
  return it != tree_->end() && it->is_null();
}

std::string Facts::spelled(const std::string& key) const {
  if (!spelling_) return key;
  const auto it = spelling_->find(key);
  return it == spelling_->end() || it->second.empty() ? key : it->second;
}

Facts Facts::with(Json tree) const {
  Facts out = *this;
  out.kept_ = std::make_shared<const Json>(std::move(tree));
  out.tree_ = out.kept_.get();
  return out;
}

Facts Facts::with_values(const Json& values) const {
  Json all = tree();
  all.update(values);
  return with(std::move(all));
}

Facts Facts::with_defaults(const Json& values) const {
  Json all = tree();
  for (const auto& [key, value] : values.items())
    if (!has(key)) all[key] = value;
  return with(std::move(all));
}

Facts Facts::renamed(const std::map<std::string, std::string>& names) const {
  Json all = tree();
  for (const auto& [name, other] : names)
    if (const Json* value = find(name)) all[other] = *value;
  return with(std::move(all));
}

void Facts::stated_in_gguf(std::initializer_list<const char*> keys) const {
  if (!is_gguf()) return;
  for (const char* key : keys)
    if (has(key)) return;
  refuse(*keys.begin(), "is missing");
}

void Facts::pass_over(std::initializer_list<const char*> keys) const {
  for (const char* key : keys) find(key);
}

void Facts::refuse(const std::string& key, const std::string& why) const {
  fail("%s %s", name_for_messages(key).c_str(), why.c_str());
}

int64_t Facts::integer(const std::string& key, int64_t low, int64_t high) const {
  const Json* v = find(key);
  if (!v) refuse(key, "is missing");
  if (!v->is_number_integer()) refuse(key, "is not an integer");
  const bool is_huge = v->is_number_unsigned() && v->get<uint64_t>() > uint64_t(INT64_MAX);
  const int64_t n = is_huge ? INT64_MAX : v->get<int64_t>();
  if (n < low || n > high)
    refuse(key, "is " + v->dump() + ", outside of " + std::to_string(low) + " to " + std::to_string(high));
  return n;
}

int64_t Facts::integer(const std::string& key, int64_t low, int64_t high, int64_t otherwise) const {
  return has(key) ? integer(key, low, high) : otherwise;
}

double Facts::number(const std::string& key) const {
  const Json* v = find(key);
  if (!v) refuse(key, "is missing");
  if (!v->is_number() || !std::isfinite(v->get<double>())) refuse(key, "is not a finite number");
  return v->get<double>();
}

double Facts::number(const std::string& key, double otherwise) const {
  if (has(key)) return number(key);
  if (otherwise != 0 && is_null(key)) refuse(key, "is null, not a number");
  return otherwise;
}

std::vector<int64_t> Facts::integers(const std::string& key, size_t count, int64_t low, int64_t high) const {
  const Json* v = find(key);
  if (!v || !v->is_array()) return std::vector<int64_t>(count, integer(key, low, high));
  if (v->size() != count) refuse(key, "has " + std::to_string(v->size()) + " values, wanted " + std::to_string(count));
  std::vector<int64_t> out;
  for (const Json& one : *v) out.push_back(with({{is_gguf() ? key : prefix_ + key, one}}).integer(key, low, high));
  return out;
}

bool Facts::boolean(const std::string& key, bool otherwise) const {
  const Json* v = find(key);
  if (!v && otherwise && is_null(key)) refuse(key, "is null, neither true nor false");
  if (!v) return otherwise;
  if (!v->is_boolean()) refuse(key, "is neither true nor false");
  return v->get<bool>();
}

std::string Facts::text(const std::string& key, const std::string& otherwise) const {
  const Json* v = find(key);
  if (!v) return otherwise;
  if (!v->is_string()) refuse(key, "is not a string");
  return v->get<std::string>();
}

void Facts::expect(const std::string& key, const Json& value) const {
  const Json* v = find(key);
  if (v && *v != value) refuse(key, "is " + printable(shown(*v)) + "; only " + shown(value) + " is supported");
}

std::optional<Facts> Facts::inside(const std::string& key) const {
  const Json* v = find(key);
  if (!v) return std::nullopt;
  if (!v->is_object()) refuse(key, "is not an object");
  if (asked_) asked_->opened.insert(name_of(key));
  return Facts(*v, where_ + ": " + prefix_ + key, "", asked_, name_of(key) + "/");
}

Facts Facts::inside(const std::string& key, size_t i) const {
  const Json* v = find(key);
  if (!v || !v->is_array() || i >= v->size() || !(*v)[i].is_object()) refuse(key, "is not a list of objects");
  if (asked_) asked_->opened.insert(name_of(key));
  return Facts((*v)[i], where_ + ": " + prefix_ + key, "", asked_, name_of(key) + "/");
}

std::string stated_architecture(const Checkpoint& c) {
  const bool is_gguf = c.is_gguf();
  const Facts facts = is_gguf ? Facts(c.meta, c.path.string()) : Facts(configuration(c), c.path.string() + kFile);
  const char* key = is_gguf ? "general.architecture" : "model_type";
  const std::string name = facts.text(key, "");
  // The files of timm, as transformers knows them too.
  if (name.empty() && !is_gguf && facts.has("architecture") && facts.has("pretrained_cfg")) return "timm_wrapper";
  if (name.empty()) facts.refuse(key, "is missing");
  return name;
}

bool names_base_class(const Checkpoint& c) {
  if (c.is_gguf()) return !source_facts(c).boolean("is_causal", true);
  if (c.meta.find("modules") != c.meta.end()) return true;
  const Json& config = configuration(c);
  if (!config.is_object()) return false;
  const auto classes = config.find("architectures");
  if (classes == config.end() || !classes->is_array() || classes->empty() || !(*classes)[0].is_string()) return false;
  const std::string name = (*classes)[0].get<std::string>();
  const auto ends = [&](const std::string& end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  return ends("Model") && !ends("LMHeadModel");
}

Facts outer_facts(const Checkpoint& c) { return Facts(configuration(c), c.path.string() + kFile, "", c.asked); }

Facts config_facts(const Checkpoint& c) {
  const Facts outer = outer_facts(c);
  const auto text = outer.inside("text_config");
  return text ? *text : outer;
}

Facts source_facts(const Checkpoint& c, const GgufForm& form) {
  return c.is_gguf() ? gguf_facts(c, form) : config_facts(c);
}

namespace {

const std::string kText = "text_config/";

class Unasked {
 public:
  explicit Unasked(const AskedKeys& asked) : asked_(asked) {}

  void look_at(const Json& object, const std::string& path) {
    for (const auto& [key, value] : object.items()) {
      const std::string name = path + key;
      if (value.is_null()) continue;
      if (asked_.opened.count(name)) open(value, name + "/");
      else if (!is_known(name, path) && !is_harmless(key, value)) add(name, value);
    }
  }
  void add(const std::string& name, const Json& value) {
    if (++count_ <= kMostNames)
      names_ += (names_.empty() ? "" : ", ") + printable(name) + " (" + printable(shown(value), 40) + ")";
  }
  bool is_known(const std::string& name, const std::string& path) const {
    // What a model for more than text says beside its part for text is not what that part goes by.
    return asked_.keys.count(name) || (path.empty() && asked_.keys.count(kText + name));
  }
  void refuse(const std::string& where) const {
    if (count_ == 0) return;
    fail(
        "%s: %zu option%s unknown to the recipe, so the result could be wrong: %s%s. What does not change what the "
        "model computes may be taken out of the file",
        where.c_str(), count_, count_ == 1 ? " is" : "s are", names_.c_str(), count_ > kMostNames ? ", ..." : "");
  }

 private:
  static constexpr size_t kMostNames = 16;
  void open(const Json& value, const std::string& path) {
    if (value.is_object()) look_at(value, path);
    else if (value.is_array())
      for (const Json& each : value)
        if (each.is_object()) look_at(each, path);
  }

  const AskedKeys& asked_;
  std::string names_;
  size_t count_ = 0;
};

}  // namespace

void refuse_unasked(const Checkpoint& c) {
  Unasked unasked(*c.asked);
  if (c.is_gguf()) {
    const std::string prefix = stated_architecture(c) + ".";
    for (const auto& [key, value] : c.meta.items()) {
      const bool is_own = key.compare(0, prefix.size(), prefix) == 0;
      if (is_own && !unasked.is_known(key, prefix) && !is_harmless(key.substr(prefix.size()), value))
        unasked.add(key, value);
    }
    return unasked.refuse(c.path.string());
  }
  const auto config = c.meta.find("config");
  if (config == c.meta.end()) return;
  unasked.look_at(*config, "");
  unasked.refuse(c.path.string() + "/config.json");
}

Json with_defaults(const Json& config, Json defaults) {
  for (const auto& [key, value] : config.items())
    if (!value.is_null() || !defaults.contains(key)) defaults[key] = value;
  return defaults;
}

}  // namespace runnel::convert
