#include "cli/inside/memory_bound.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "api/handles.h"
#include "base/clock.h"
#include "cpu/features.h"
#include "format/packed.h"

namespace runnel::cli {
namespace {

uint64_t tensor_bytes(const TensorView& v) {
  return v.packed ? v.packed->matrix_bytes(v.dims[0], v.dims[1]) : view_bytes(v);
}

int64_t elements(const TensorView& v) {
  int64_t n = 1;
  for (int d = 0; d < v.rank; ++d) n *= v.dims[d];
  return n;
}

// Of a tensor of the model that is input k.
double weight_bytes(const ObservedOp& op, int k) {
  const OpCall& c = *op.call;
  const TensorView& w = c.in[k];
  const double all = double(tensor_bytes(w));
  const OpDef& def = *op.program->info->ops[op.index].def;
  const auto is = [&](const char* name) { return &def == find_op_by_name(name); };
  // A row of the table for each row of the output.
  if ((is("embedding") || is("gather_rows")) && w.rank > 1 && c.out[0].rank > 0) {
    const double row = double(elements(w)) / double(std::max<int64_t>(1, w.dims[0]));
    return std::min(all, all * double(elements(c.out[0])) / row / double(std::max<int64_t>(1, w.dims[0])));
  }
  if (is("routed_matmul") && w.packed && c.out[0].rank == 3 && k >= 2 && k < 2 + c.out_count) {
    const double rows = double((c.out[k - 2].dims[2] + kTileRows - 1) / kTileRows * kTileRows);
    return std::min(all, all * double(c.out[0].dims[0] * c.out[0].dims[1]) * rows / double(w.dims[0]));
  }
  if (w.packed && w.packed->split && (c.best > 0 || c.wanted))
    return double((w.dims[0] + kTileRows - 1) / kTileRows) * double(SplitLayout(w.dims[1]).tile);
  return all;
}

uint64_t bytes_of(const Session& session, const ObservedOp& op, int64_t position) {
  if (op.program->ops[op.index].is_skipped_view) return 0;
  const OpInfo& info = op.program->info->ops[op.index];
  double bytes = 0;
  for (int k = 0; k < info.in_count; ++k) {
    const Operand& o = op.program->info->operands[info.first_operand + uint32_t(k)];
    if (o.kind == Operand::Kind::kTensor) bytes += weight_bytes(op, k);
    if (o.kind != Operand::Kind::kState) continue;
    const PlannedState& s = session.plan().states[o.index];
    if (!info.def->use_slots || s.slots == 0) {
      bytes += double(view_bytes(op.call->in[k]));
      continue;
    }
    const SlotUse use = info.def->use_slots(*op.call);
    int64_t seen = (position + 1) / std::max<int64_t>(1, use.stride);
    if (use.window > 0) seen = std::min(seen, use.window);
    bytes += double(s.bytes) / double(s.slots) * double(std::min(seen, s.slots));
  }
  return uint64_t(bytes);
}

struct Piece {
  const unsigned char* data;
  size_t bytes;
};
constexpr size_t kPiece = 256 << 10;
constexpr uint64_t kMost = uint64_t(1) << 30;
constexpr int kRounds = 5;

struct Pieces {
  std::vector<Piece> all;
  std::atomic<uint64_t> sum{0};  // so that nobody leaves the reading out
};

void read_piece(void* context, int64_t task, int) {
  typedef uint64_t Line __attribute__((vector_size(64), aligned(64)));
  Pieces& p = *static_cast<Pieces*>(context);
  const Piece& piece = p.all[size_t(task)];
  const Line* at = reinterpret_cast<const Line*>(piece.data);
  Line a{}, b{};
  for (size_t i = 0; i + 2 <= piece.bytes / sizeof(Line); i += 2) a ^= at[i], b ^= at[i + 1];
  a ^= b;
  p.sum.fetch_add(a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7], std::memory_order_relaxed);
}

}  // namespace

uint64_t bytes_read(rnl_session* session, int64_t position, const std::function<void()>& call) {
  struct Watch {
    Session& session;
    int64_t position;
    uint64_t bytes;
    ~Watch() { session.set_observer(nullptr, nullptr); }
  } watch{*session->session, position, 0};
  watch.session.set_observer(
      [](void* context, const ObservedOp& op) -> Status {
        Watch& w = *static_cast<Watch*>(context);
        w.bytes += bytes_of(w.session, op, w.position);
        return Status::ok();
      },
      &watch);
  call();
  return watch.bytes;
}

int token_threads(const rnl_session* session) {
  return thread_pool_size(thread_pool_part(session->owner->engine->pool));
}

double read_gb_per_s(const rnl_session* session) {
  const Model& model = session->session->model();
  ThreadPool* pool = thread_pool_part(session->owner->engine->pool);
  Pieces p;
  uint64_t total = 0;
  for (const TensorInfo& t : model.tensors()) {
    const uint64_t bytes = tensor_bytes(t.view);
    for (uint64_t i = 0; i < bytes && total < kMost; i += kPiece) {
      p.all.push_back(
          {static_cast<const unsigned char*>(t.view.data) + i, size_t(std::min<uint64_t>(kPiece, bytes - i))});
      total += p.all.back().bytes;
    }
  }
  double best = 0;
  for (int r = 0; r < kRounds; ++r) {
    const uint64_t t0 = now_ns();
    parallel_for(pool, int64_t(p.all.size()), read_piece, &p);
    best = std::max(best, double(total) / double(now_ns() - t0 + 1));
  }
  return best;
}

std::string name_of_cpu() {
  char name[96];
  cpu_name(name, sizeof name);
  return name;
}

}  // namespace runnel::cli
