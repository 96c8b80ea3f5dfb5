// Engines, models, grammars: what sessions are made from.
#include <memory>

#include "native.h"

namespace runnel_python {
namespace {

// All of what a model lists, as dictionaries. get(index, &info) ends with RNL_NOT_FOUND.
template <class Info, class Fn>
nb::list list(Fn get) {
  nb::list out;
  for (size_t i = 0;; ++i) {
    Info info = make<Info>();
    const rnl_status_code code = get(i, &info);
    if (code == RNL_NOT_FOUND) return out;
    check(code);
    out.append(to_dict(info));
  }
  return out;
}

// Asks for the size, then for the elements.
template <class T, class Fn>
std::vector<T> sized(Fn get) {
  size_t count = 0;
  check(get(static_cast<T*>(nullptr), size_t(0), &count));
  std::vector<T> out(count);
  check(get(out.data(), count, &count));
  return out;
}

using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void open_engine(Engine* e, int32_t threads) {
  new (e) Engine;
  rnl_engine_options o = make<rnl_engine_options>();
  o.threads = threads;
  e->handle.open([&](rnl_engine** out) { return rnl_engine_create(&o, out); });
}

void open_model(Model* m, const Engine& engine, const std::string& path, bool copy,
                const std::optional<std::string>& adapter) {
  new (m) Model;
  rnl_model_options o = make<rnl_model_options>();
  o.copy = copy;
  o.adapter = adapter ? adapter->c_str() : nullptr;
  const auto e = engine.handle.hold();
  m->handle.open([&](rnl_model** out) { return rnl_model_open(e.get(), path.c_str(), &o, out); });
}

Model* open_memory(const Engine& engine, Bytes data) {
  auto m = std::make_unique<Model>();
  const auto e = engine.handle.hold();
  m->handle.open([&](rnl_model** out) { return rnl_model_open_memory(e.get(), data.data(), data.size(), out); });
  m->memory = nb::cast(data);
  return m.release();
}

nb::dict info(const Model& m) {
  rnl_model_info i = make<rnl_model_info>();
  check(rnl_model_get_info(m.handle.get(), &i));
  return to_dict(i);
}

nb::dict plan(const Model& m, const nb::dict& given) {
  const rnl_session_options options = read_options<rnl_session_options>(given);
  rnl_memory memory = make<rnl_memory>();
  const auto model = m.handle.hold();
  call([&] { return rnl_session_plan(model.get(), &options, &memory); });
  return to_dict(memory);
}

std::vector<int32_t> tokenize(const Model& m, const std::string& text, uint32_t flags) {
  const rnl_model* model = m.handle.get();
  return sized<int32_t>([&](int32_t* ids, size_t capacity, size_t* count) {
    return rnl_tokenize(model, text.data(), text.size(), flags, ids, capacity, count);
  });
}

nb::str detokenize(const Model& m, Ids ids, uint32_t flags) {
  const rnl_model* model = m.handle.get();
  const std::vector<char> text = sized<char>([&](char* buffer, size_t capacity, size_t* size) {
    return rnl_detokenize(model, ids.data(), ids.size(), flags, buffer, capacity, size);
  });
  return to_text(text.data(), text.size());
}

nb::str chat_text(const Model& m, Conversation::Messages messages, const nb::dict& variables, bool is_closed,
                  int64_t now) {
  const Conversation chat(std::move(messages), variables, is_closed, now);
  const rnl_model* model = m.handle.get();
  const std::vector<char> text = sized<char>([&](char* buffer, size_t capacity, size_t* size) {
    return rnl_chat_text(model, chat.get(), buffer, capacity, size);
  });
  return to_text(text.data(), text.size());
}

std::vector<int32_t> chat_ids(const Model& m, Conversation::Messages messages, const nb::dict& variables,
                              bool is_closed, int64_t now) {
  const Conversation chat(std::move(messages), variables, is_closed, now);
  const rnl_model* model = m.handle.get();
  return sized<int32_t>([&](int32_t* ids, size_t capacity, size_t* count) {
    return rnl_chat_ids(model, chat.get(), ids, capacity, count);
  });
}

std::vector<int32_t> chat_turn(const Model& m, const std::string& user, const std::optional<std::string>& system,
                               bool first) {
  const rnl_model* model = m.handle.get();
  return sized<int32_t>([&](int32_t* ids, size_t capacity, size_t* count) {
    return rnl_chat_turn(model, system ? system->c_str() : nullptr, user.c_str(), first, ids, capacity, count);
  });
}

void make_grammar(Grammar* g, nb::object model, const std::string& text) {
  new (g) Grammar;
  const auto m = nb::cast<const Model&>(model).handle.hold();
  g->model = std::move(model);
  g->handle.open([&](rnl_grammar** out) { return rnl_grammar_create(m.get(), text.data(), text.size(), out); });
}

}  // namespace

Conversation::Conversation(Messages messages, const nb::dict& variables, bool is_closed, int64_t now)
    : messages_(std::move(messages)) {
  for (const auto& [role, content] : messages_) message_list_.push_back({role.c_str(), content.c_str()});
  variable_texts_.reserve(variables.size());  // c_str() of them stay
  for (auto [key, value] : variables) {
    const bool is_truth = PyBool_Check(value.ptr());
    const std::string name = nb::cast<std::string>(key);
    variable_texts_.emplace_back(name, is_truth ? std::string() : option<std::string>(name, value));
    const auto& [kept, text] = variable_texts_.back();
    variable_list_.push_back({kept.c_str(), is_truth ? nullptr : text.c_str(), is_truth && value.ptr() == Py_True});
  }
  chat_.messages = message_list_.data();
  chat_.message_count = message_list_.size();
  chat_.is_closed = is_closed;
  chat_.variables = variable_list_.data();
  chat_.variable_count = variable_list_.size();
  chat_.now = now;
}

void define_model(nb::module_& m) {
  nb::class_<Engine>(m, "Engine")
      .def("__init__", open_engine, nb::arg("threads"))
      .def("threads", [](const Engine& e) { return rnl_engine_threads(e.handle.get()); })
      .def("close", [](Engine& e) { e.handle.close(); });
  nb::class_<Model>(m, "Model")
      .def("__init__", open_model, nb::arg("engine"), nb::arg("path"), nb::arg("copy"), nb::arg("adapter").none())
      .def_static("open_memory", open_memory, nb::rv_policy::take_ownership)
      .def("close", [](Model& self) { self.handle.close(); })
      .def("verify", [](const Model& self) { call([h = self.handle.hold()] { return rnl_model_verify(h.get()); }); })
      .def("info", info)
      .def("plan", plan)
      .def("programs",
           [](const Model& self) {
             return list<rnl_program_info>(
                 [h = self.handle.get()](size_t i, auto* out) { return rnl_model_program(h, i, out); });
           })
      .def("symbols",
           [](const Model& self) {
             return list<rnl_symbol_info>(
                 [h = self.handle.get()](size_t i, auto* out) { return rnl_model_symbol(h, i, out); });
           })
      .def("states",
           [](const Model& self) {
             return list<rnl_state_info>(
                 [h = self.handle.get()](size_t i, auto* out) { return rnl_model_state(h, i, out); });
           })
      .def("inputs",
           [](const Model& self, const std::string& program) {
             return list<rnl_value_info>([h = self.handle.get(), &program](size_t i, auto* out) {
               return rnl_model_program_input(h, program.c_str(), i, out);
             });
           })
      .def("outputs",
           [](const Model& self, const std::string& program) {
             return list<rnl_value_info>([h = self.handle.get(), &program](size_t i, auto* out) {
               return rnl_model_program_output(h, program.c_str(), i, out);
             });
           })
      .def("tokenize", tokenize)
      .def("detokenize", detokenize)
      .def("chat_text", chat_text)
      .def("chat_ids", chat_ids)
      .def("chat_turn", chat_turn, nb::arg("user"), nb::arg("system").none(), nb::arg("first"));
  nb::class_<Grammar>(m, "Grammar").def("__init__", make_grammar).def("close", [](Grammar& g) { g.handle.close(); });
  m.attr("TEXT_NO_BOS_EOS") = int(RNL_TEXT_NO_BOS_EOS);
  m.attr("TEXT_SPECIAL") = int(RNL_TEXT_SPECIAL);
}

}  // namespace runnel_python
