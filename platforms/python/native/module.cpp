// The module: errors, notices, what belongs to no object.
#include <mutex>

#include "native.h"
#include "runnel/json_schema.hpp"

namespace runnel_python {
namespace {

void translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Failure& f) {
    const nb::module_ names = nb::module_::import_("runnel._abi");
    const nb::object kind =
        f.code == kBusy ? nb::object(names.attr("Busy")) : nb::object(names.attr("ERRORS")[f.code - 1]);
    PyErr_SetObject(kind.ptr(), to_text(f.message.data(), f.message.size()).ptr());
  }
}

// Notices come from any thread. The function is kept for the life of the process, so that nothing of Python is touched
// when the interpreter ends.
std::atomic<PyObject*> g_log{nullptr};

void log(void*, int level, const char* message) {
  if (!g_log.load()) return;
  nb::gil_scoped_acquire gil;
  PyObject* fn = g_log.load();
  if (!fn) return;
  try {
    nb::borrow(fn)(level, to_text(message, std::char_traits<char>::length(message)));
  } catch (nb::python_error& e) {
    e.discard_as_unraisable("the function given to runnel.set_log");
  }
}

void set_log(nb::object fn) {
  PyObject* before = g_log.exchange(fn.is_none() ? nullptr : fn.inc_ref().ptr());
  Py_XDECREF(before);
}

nb::list vulkan_devices() {
  std::vector<std::string> lines;
  call([&] {
    return rnl_vulkan_devices(
        [](void* user, const char* text) { static_cast<std::vector<std::string>*>(user)->push_back(text); }, &lines);
  });
  nb::list out;
  for (const std::string& line : lines) out.append(to_text(line.data(), line.size()));
  return out;
}

std::pair<nb::dict, int64_t> saved_options(const std::string& path) {
  rnl_session_options options = make<rnl_session_options>();
  int64_t position = 0;
  check(rnl_saved_options(path.c_str(), &options, &position));
  return {to_dict(options), position};
}

std::pair<std::string, std::vector<std::string>> schema_grammar(const std::string& schema) {
  std::string grammar, error;
  std::vector<std::string> notes;
  if (!rnl::json_schema_to_grammar(schema, &grammar, &error, &notes)) throw Failure(RNL_INVALID_ARGUMENT, error);
  return {grammar, notes};
}

}  // namespace

NB_MODULE(_native, m) {
  // Objects that live until the interpreter ends are no mistake of their owner.
  nb::set_leak_warnings(false);
  nb::register_exception_translator(translate);
  rnl_set_log(log, nullptr);
  m.def("version", rnl_version);
  m.def("format_version", rnl_format_version);
  m.def("set_log", set_log, nb::arg("fn").none());
  m.def("vulkan_devices", vulkan_devices);
  m.def("saved_options", saved_options);
  m.def("schema_grammar", schema_grammar);
  m.def("json_grammar", rnl::json_grammar);
  define_model(m);
  define_session(m);
  define_answer(m);
}

}  // namespace runnel_python
