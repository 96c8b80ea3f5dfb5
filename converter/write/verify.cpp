#include "converter/write/verify.h"

#include <algorithm>

#include "converter/base/error.h"
#include "format/model_file.h"
#include "session/session.h"

namespace runnel::convert {
namespace {

constexpr int32_t kSmokeTokens = 3;

void check(Status status) {
  if (!status.is_ok()) fail("the written file does not work: %s", status.message());
}

// Whether the session can fill in everything but the tokens.
const char* tokens_input(const ProgramInfo& program) {
  const char* tokens = nullptr;
  for (uint32_t i = 0; i < program.input_count; ++i) {
    if (program.values[i].role == format::Role::none) return nullptr;
    if (program.values[i].role == format::Role::tokens) tokens = program.values[i].name;
  }
  return tokens;
}

Status drop(void*, uint32_t, const TensorView&, int64_t) { return Status::ok(); }

}  // namespace

void verify_written(const char* path) {
  auto model = Model::open(path, {});
  if (!model.is_ok()) check(model.take_status());
  check(model.value()->verify_segments());
  PlanOptions options;
  options.context = 64;
  options.chunk = kSmokeTokens;
  options.rollback = 0;
  auto session = Session::create(*model.value(), nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) check(session.take_status());
  const char* name = tokens_input(model.value()->programs()[0]);
  if (!name) return;
  int32_t ids[kSmokeTokens] = {};  // token 0 exists in every vocabulary
  IoTensor input{name, DType::kI32, 1, {kSmokeTokens}, ids, sizeof ids};
  Session::RunOptions run;
  run.sink = drop;
  check(session.value()->run(&input, 1, run));
}

void verify_adapter(const char* path, std::unique_ptr<Model> base) {
  auto file = FileView::open(path, false);
  if (!file.is_ok()) check(file.take_status());
  auto model = Model::open_memory(file.value().data(), file.value().size(), std::move(base));
  if (!model.is_ok()) check(model.take_status());
  PlanOptions options;
  options.context = 64;
  auto plan = make_plan(*model.value(), options);
  if (!plan.is_ok()) check(plan.take_status());
}

}  // namespace runnel::convert
