#include "text/features.h"

#include <cstring>

#include "text/stream.h"

namespace runnel {
namespace {

// A call that only feeds: no outputs are wanted.
struct FeedingCall {
  IoTensor in[3];
  size_t count = 0;
  Session::RunOptions options;

  FeedingCall() {
    options.sink = [](void*, uint32_t, const TensorView&, int64_t) { return Status::ok(); };
  }
  void add(const char* name, DType dtype, int32_t rank, size_t tokens, size_t each, const void* data) {
    in[count++] = {name, dtype, rank, {int64_t(tokens), int64_t(each)}, const_cast<void*>(data), tokens * each * 4};
  }
};

Status make_call(const Session& session, const rnl_features& f, size_t number, FeedingCall* call) {
  for (const PlannedProgram& p : session.plan().programs) {
    if (f.program && std::strcmp(f.program, p.info->name) != 0) continue;
    bool has_rows = false, has_ids = false, has_positions = false;
    call->count = 0;
    for (uint32_t i = 0; i < p.info->input_count; ++i) {
      const ValueInfo& v = p.info->values[i];
      const bool are_rows = v.role == format::Role::none && v.dtype == DType::kF32 && v.shape.rank == 2 &&
                            is_stream_input(session.model(), p, v);
      has_ids = has_ids || v.role == format::Role::tokens;
      if (are_rows && !has_rows) call->add(v.name, v.dtype, 2, f.count, f.width, f.rows), has_rows = true;
      if (v.role == format::Role::rows) call->add(v.name, v.dtype, 1, 0, 1, nullptr);
      if (v.role != format::Role::positions || v.dtype != DType::kI32 || !f.positions || has_positions) continue;
      call->add(v.name, v.dtype, f.axes > 1 ? 2 : v.shape.rank, f.count, f.axes > 1 ? f.axes : 1, f.positions);
      has_positions = true;
    }
    if (!has_rows || has_ids) continue;
    RNL_CHECK_ARG(has_positions || !f.positions, "features %zu: program \"%s\" takes no positions", number,
                  p.info->name);
    call->options.program = p.info->name;
    return Status::ok();
  }
  return Status::make(Code::kUnsupported,
                      "features %zu: the model has no program%s%.80s that takes rows of floats in the place of ids",
                      number, f.program ? " " : "", f.program ? f.program : "");
}

}  // namespace

Status Features::check(Session& session, const int32_t* ids, size_t first, size_t count) const {
  size_t k = 0, at = first;
  int64_t tokens = int64_t(count);
  for (size_t i = first; i < count && count_; ++i) {
    if (ids[i] != list_[k < count_ ? k : k - 1].placeholder) continue;
    RNL_CHECK_ARG(k < count_, "ids hold more placeholders than the %zu of the features", count_);
    at = i + 1;
    tokens += int64_t(list_[k++].count) - 1;
  }
  RNL_CHECK_ARG(k == count_, "features %zu: ids do not hold their placeholder %d behind those before it", k,
                int(list_[k].placeholder));
  RNL_CHECK_ARG(at < count || k == 0, "the last features stand at the end of the prompt: ids are to follow them");
  for (k = 0; k < count_; ++k) {
    FeedingCall call;
    RNL_TRY(make_call(session, list_[k], k, &call));
    Status s = session.check_run(call.in, call.count, call.options);
    if (!s.is_ok()) return std::move(s).with_context("features %zu", k);
  }
  const Plan& plan = session.plan();
  if (count_ && plan.is_limited && tokens > plan.options.context - session.position())
    return Status::make(Code::kContextFull, "the stream holds %lld tokens, %lld more do not fit the context of %lld",
                        static_cast<long long>(session.position()), static_cast<long long>(tokens),
                        static_cast<long long>(plan.options.context));
  return Status::ok();
}

// Up to the last placeholder.
Status Features::feed_rows(Session& session, const int32_t* ids, size_t first, size_t* fed) const {
  TextState& state = text_state(session);
  const auto run = [&](const FeedingCall& call, const int32_t* own, int32_t placeholder) {
    const int64_t begin = session.position();
    Status s = session.run(call.in, call.count, call.options);
    for (int64_t p = begin; p < session.position(); ++p) note_tokens(state, p, own ? own++ : &placeholder, p + 1);
    return s;
  };
  *fed = 0;
  for (size_t k = 0; k < count_; ++k) {
    const rnl_features& f = list_[k];
    size_t end = *fed > first ? *fed : first;
    while (ids[end] != f.placeholder) ++end;
    if (end > *fed) {
      FeedingCall text;
      text.add("ids", DType::kI32, 1, end - *fed, 1, ids + *fed);
      text.add("rows", DType::kI32, 1, 0, 1, nullptr);
      RNL_TRY(run(text, ids + *fed, 0));
    }
    *fed = end;
    FeedingCall rows;
    RNL_TRY(make_call(session, f, k, &rows));
    RNL_TRY(run(rows, nullptr, f.placeholder));
    *fed = end + 1;
  }
  return Status::ok();
}

Status Features::feed(Session& session, const int32_t* ids, size_t first, size_t count, FeedFn feed,
                      void* context) const {
  RNL_TRY(check(session, ids, first, count));
  const int64_t begin = session.position();
  size_t fed = 0;
  Status s = feed_rows(session, ids, first, &fed);
  if (s.is_ok()) s = feed(context, ids + fed, count - fed);
  const int64_t moved = session.position() - begin;
  if (s.is_ok() || moved == 0 || s.code() == Code::kCancelled) return s;
  if (!session.rollback(moved, Session::Reach::kStates).is_ok())
    return std::move(s).with_context("the stream now holds %lld tokens", static_cast<long long>(session.position()));
  note_tokens(text_state(session), begin, nullptr, begin);
  return s;
}

}  // namespace runnel
