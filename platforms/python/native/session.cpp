// Sessions: tensors in and out, states, what may be asked meanwhile.
#include <memory>

#include "native.h"

namespace runnel_python {
namespace {

using Array = nb::ndarray<nb::c_contig, nb::device::cpu>;
using ReadOnly = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

int32_t dtype_of(const nb::dlpack::dtype& t) {
  using nb::dlpack::dtype_code;
  const auto is = [&](dtype_code code, int bits) { return t.code == uint8_t(code) && t.bits == bits && t.lanes == 1; };
  return is(dtype_code::Float, 32)    ? RNL_F32
         : is(dtype_code::Float, 16)  ? RNL_F16
         : is(dtype_code::Bfloat, 16) ? RNL_BF16
         : is(dtype_code::Int, 32)    ? RNL_I32
         : is(dtype_code::Int, 64)    ? RNL_I64
         : is(dtype_code::UInt, 8)    ? RNL_U8
         : is(dtype_code::Bool, 8)    ? RNL_U8
         : is(dtype_code::Int, 8)     ? RNL_I8
                                      : 0;
}

// The caller's arrays as the tensors of a call; nothing is copied.
template <class Kind>
class Tensors {
 public:
  explicit Tensors(const nb::dict& given) {
    names_.reserve(given.size());  // c_str() of them stay
    for (auto [key, value] : given) {
      names_.push_back(nb::cast<std::string>(key));
      arrays_.push_back(nb::cast<Kind>(value, false));
      const Kind& a = arrays_.back();
      rnl_tensor t{};
      t.name = names_.back().c_str();
      t.dtype = dtype_of(a.dtype());
      t.rank = int32_t(a.ndim());
      if (a.ndim() > 6 || t.dtype == 0)
        throw Failure(RNL_INVALID_ARGUMENT, names_.back() + ": no model takes an array of this type or rank");
      for (size_t i = 0; i < a.ndim(); ++i) t.dims[i] = int64_t(a.shape(i));
      t.data = const_cast<void*>(static_cast<const void*>(a.data()));
      t.bytes = a.nbytes();
      list_.push_back(t);
    }
  }
  Tensors(const Tensors&) = delete;
  rnl_tensor* data() { return list_.data(); }
  size_t size() const { return list_.size(); }

 private:
  std::vector<std::string> names_;
  std::vector<Kind> arrays_;
  std::vector<rnl_tensor> list_;
};

nb::tuple shape(const rnl_tensor& t) {
  nb::list dims;
  for (int32_t i = 0; i < t.rank; ++i) dims.append(t.dims[i]);
  return nb::tuple(dims);
}

// While a call runs on this thread: between its passes Python's signals are handled and the caller's progress function
// is called. What one of them throws ends the call.
class Watch {
 public:
  Watch(Session& session, nb::object progress) : session_(session.handle.get()), progress_(std::move(progress)) {
    rnl_session_set_progress(session_, step, this);
  }
  Watch(const Watch&) = delete;
  ~Watch() { rnl_session_set_progress(session_, nullptr, nullptr); }
  // Runs Python code on behalf of a callback; false: it threw.
  template <class Fn>
  bool run(Fn fn) {
    nb::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      fn();
      return true;
    } catch (...) {
      thrown_ = std::current_exception();
      return false;
    }
  }
  template <class Fn>
  void call(Fn fn) {
    try {
      runnel_python::call(fn);
    } catch (const Failure&) {
      if (!thrown_) throw;
    }
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  static int step(void* user, int64_t done, int64_t total) {
    auto& w = *static_cast<Watch*>(user);
    return !w.run([&] {
      if (!w.progress_.is_none()) w.progress_(done, total);
    });
  }
  rnl_session* session_;
  nb::object progress_;
  std::exception_ptr thrown_;
};

void* lent(const nb::object& memory, size_t needed) {
  if (memory.is_none()) return nullptr;
  const auto bytes = nb::cast<Bytes>(memory, false);
  if (bytes.nbytes() < needed)
    throw Failure(RNL_INVALID_ARGUMENT,
                  std::to_string(bytes.nbytes()) + " bytes of memory, " + std::to_string(needed) + " are needed");
  return bytes.data();
}

void create(Session* s, nb::object model, const nb::dict& given, nb::object state_memory, nb::object arena_memory) {
  new (s) Session;
  rnl_session_options options = read_options<rnl_session_options>(given);
  const auto m = nb::cast<const Model&>(model).handle.hold();
  if (!state_memory.is_none() || !arena_memory.is_none()) {
    rnl_memory memory = make<rnl_memory>();
    call([&] { return rnl_session_plan(m.get(), &options, &memory); });
    options.state_memory = lent(state_memory, memory.state);
    options.arena_memory = lent(arena_memory, memory.arena);
  }
  s->model = std::move(model);
  s->state_memory = std::move(state_memory);
  s->arena_memory = std::move(arena_memory);
  s->handle.open([&](rnl_session** out) { return rnl_session_create(m.get(), &options, out); });
}

Session* fork(Session& s) {
  Using use(s);
  auto copy = std::make_unique<Session>();
  copy->model = s.model;
  copy->handle.open([&](rnl_session** out) { return rnl_session_fork(s.handle.get(), out); });
  return copy.release();
}

void close(Session& s) {
  if (s.handle.is_closed()) return;
  {
    Using use(s);
    s.handle.close();
  }
  s.model = s.state_memory = s.arena_memory = nb::object();
}

// (dtype, shape, bytes) of each output.
nb::list output_shapes(Session& s, const std::string& program, const nb::dict& inputs,
                       const std::vector<std::string>& names, bool all_rows) {
  Using use(s);
  Tensors<ReadOnly> in(inputs);
  std::vector<rnl_tensor> out(names.size());
  for (size_t i = 0; i < names.size(); ++i) out[i].name = names[i].c_str();
  call([&] {
    return rnl_session_output_shapes(s.handle.get(), program.c_str(), in.data(), in.size(), all_rows, out.data(),
                                     out.size());
  });
  nb::list shapes;
  for (const rnl_tensor& t : out) shapes.append(nb::make_tuple(t.dtype, shape(t), t.bytes));
  return shapes;
}

// (dtype, shape) of each output, which were written into the given arrays.
nb::list run(Session& s, const std::string& program, const nb::dict& inputs, const nb::dict& outputs,
             nb::object progress) {
  Using use(s);
  Tensors<ReadOnly> in(inputs);
  Tensors<Array> out(outputs);
  Watch watch(s, std::move(progress));
  watch.call(
      [&] { return rnl_session_run(s.handle.get(), program.c_str(), in.data(), in.size(), out.data(), out.size()); });
  nb::list shapes;
  for (size_t i = 0; i < out.size(); ++i) shapes.append(nb::make_tuple(out.data()[i].dtype, shape(out.data()[i])));
  return shapes;
}

// fn(name, dtype, shape, memoryview, first row) for each block; the memory is the library's and valid during the call.
void run_blocks(Session& s, const std::string& program, const nb::dict& inputs, const std::vector<std::string>& names,
                bool all_rows, const nb::callable& fn, nb::object progress) {
  Using use(s);
  Tensors<ReadOnly> in(inputs);
  std::vector<const char*> list;
  for (const std::string& name : names) list.push_back(name.c_str());
  Watch watch(s, std::move(progress));
  struct Sink {
    Watch& watch;
    const nb::callable& fn;
  } sink{watch, fn};
  const auto deliver = [](void* user, const rnl_tensor* t, int64_t first_row) -> int {
    const Sink& k = *static_cast<Sink*>(user);
    return !k.watch.run([&] {
      const nb::object view =
          nb::steal(PyMemoryView_FromMemory(static_cast<char*>(t->data), Py_ssize_t(t->bytes), PyBUF_READ));
      k.fn(t->name, t->dtype, shape(*t), view, first_row);
    });
  };
  watch.call([&] {
    return rnl_session_run_named_blocks(s.handle.get(), program.c_str(), in.data(), in.size(), list.data(), list.size(),
                                        all_rows, deliver, &sink);
  });
}

void embed(Session& s, Ids ids, const nb::dict& given, Floats out, nb::object progress) {
  const rnl_embed_options options = read_options<rnl_embed_options>(given);
  Using use(s);
  Watch watch(s, std::move(progress));
  watch.call(
      [&] { return rnl_session_embed(s.handle.get(), ids.data(), ids.size(), &options, out.data(), out.size()); });
}

nb::bytes snapshot(Session& s) {
  Using use(s);
  const size_t size = rnl_session_snapshot_bytes(s.handle.get());
  nb::object bytes = nb::steal(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(size)));
  if (!bytes.is_valid()) throw nb::python_error();
  char* data = PyBytes_AsString(bytes.ptr());
  call([&] { return rnl_session_snapshot(s.handle.get(), data, size); });
  return nb::borrow<nb::bytes>(bytes);
}

void set_trace(Session& s, bool is_on) {
  Using use(s);
  const rnl_trace_fn note = [](void* user, const char* op, const char* kernel, uint64_t begin, uint64_t end) {
    static_cast<Session*>(user)->trace.push_back({op, kernel, begin, end});
  };
  rnl_session_set_trace(s.handle.get(), is_on ? note : nullptr, &s);
}

nb::list take_trace(Session& s) {
  Using use(s);
  nb::list out;
  for (const TraceEvent& e : s.trace) out.append(nb::make_tuple(e.op, e.kernel, e.begin_ns, e.end_ns));
  s.trace.clear();
  return out;
}

nb::dict stats(const Session& s) {
  rnl_stats out = make<rnl_stats>();
  rnl_session_stats(s.handle.get(), &out);
  return to_dict(out);
}

int64_t position(const Session& s) {
  if (!s.is_busy) return rnl_session_position(s.handle.get());
  rnl_stats out = make<rnl_stats>();
  rnl_session_stats(s.handle.get(), &out);
  return out.position;
}

// Calls that need no more than the handle.
void define_states(nb::class_<Session>& c) {
  c.def("reset",
        [](Session& s) {
          Using use(s);
          rnl_session_reset(s.handle.get());
        })
      .def("rollback",
           [](Session& s, int64_t n) {
             Using use(s);
             call([&] { return rnl_session_rollback(s.handle.get(), n); });
           })
      .def("trim",
           [](Session& s) {
             Using use(s);
             call([&] { return rnl_session_trim(s.handle.get()); });
           })
      .def("recover",
           [](Session& s) {
             Using use(s);
             call([&] { return rnl_session_recover(s.handle.get()); });
           })
      .def("snapshot", snapshot)
      .def("restore_snapshot",
           [](Session& s, const nb::bytes& state) {
             Using use(s);
             call([&] { return rnl_session_restore_snapshot(s.handle.get(), state.c_str(), state.size()); });
           })
      .def("save",
           [](Session& s, const std::string& path) {
             Using use(s);
             call([&] { return rnl_session_save(s.handle.get(), path.c_str()); });
           })
      .def("restore",
           [](Session& s, const std::string& path) {
             Using use(s);
             call([&] { return rnl_session_restore(s.handle.get(), path.c_str()); });
           })
      .def("fork", fork, nb::rv_policy::take_ownership);
}

}  // namespace

void define_session(nb::module_& m) {
  nb::class_<Session> c(m, "Session");
  c.def("__init__", create, nb::arg("model"), nb::arg("options"), nb::arg("state_memory").none(),
        nb::arg("arena_memory").none())
      .def("close", close)
      .def("memory",
           [](const Session& s) {
             rnl_memory out = make<rnl_memory>();
             check(rnl_session_get_memory(s.handle.get(), &out));
             return to_dict(out);
           })
      .def("backend",
           [](const Session& s) {
             rnl_backend_info out = make<rnl_backend_info>();
             rnl_session_get_backend(s.handle.get(), &out);
             return to_dict(out);
           })
      .def("output_shapes", output_shapes)
      .def("run", run, nb::arg("program"), nb::arg("inputs"), nb::arg("outputs"), nb::arg("progress").none())
      .def("run_blocks", run_blocks, nb::arg("program"), nb::arg("inputs"), nb::arg("outputs"), nb::arg("all_rows"),
           nb::arg("fn"), nb::arg("progress").none())
      .def("set_top_logits",
           [](Session& s, int32_t k) {
             Using use(s);
             rnl_session_set_top_logits(s.handle.get(), k);
           })
      .def("embed", embed, nb::arg("ids"), nb::arg("options"), nb::arg("out"), nb::arg("progress").none())
      .def("set_trace", set_trace)
      .def("take_trace", take_trace)
      // Any thread, at any time.
      .def("position", position)
      .def("stats", stats)
      .def("cancel", [](const Session& s) { rnl_session_cancel(s.handle.get()); })
      .def("clear_cancel", [](const Session& s) { rnl_session_clear_cancel(s.handle.get()); });
  define_states(c);
}

}  // namespace runnel_python
