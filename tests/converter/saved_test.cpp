// Saved streams in sessions that were planned otherwise, and what they may be saved onto.
#include <thread>

#include "base/xxh64.h"
#include "kit.h"

namespace runnel::convert {
namespace {

class Saved : public testing::Test {
 protected:
  void convert(const std::string& golden) {
    convert_to(kGoldens / golden, tmp_ / "m.rnl");
    model_ = open_model(tmp_ / "m.rnl");
  }
  std::unique_ptr<Session> make(int64_t context, int64_t chunk = 32, int64_t rollback = 16, DType kv = DType::kNone) {
    PlanOptions o = test::plan_options();
    o.context = context, o.chunk = chunk, o.rollback = rollback, o.kv = kv;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
    return std::move(s.value());
  }
  static std::vector<float> feed(Session& s, int first, int count) {
    std::vector<int32_t> ids;
    for (int i = first; i < first + count; ++i) ids.push_back(i * 7 % 61);
    std::vector<float> out;
    const Status status = feed_ids(s, ids, &out);
    EXPECT_TRUE(status.is_ok()) << status.message();
    return out;
  }
  static std::vector<unsigned char> snapshot(const Session& s) {
    std::vector<unsigned char> out(s.snapshot_bytes());
    EXPECT_TRUE(s.snapshot(out.data(), out.size()).is_ok());
    return out;
  }
  static std::string restored(Session& s, const std::vector<unsigned char>& from) {
    return s.restore(from.data(), from.size()).message();
  }

  TemporaryFolder tmp_;
  std::unique_ptr<Model> model_;
};

TEST_F(Saved, AStreamGoesOnInAnotherContext) {
  for (const char* golden :
       {"tiny_llama", "tiny_gemma3", "tiny_qwen3_5", "tiny_recurrent_gemma", "tiny_mamba2", "tiny_deepseek"}) {
    SCOPED_TRACE(golden);
    convert(golden);
    auto full = make(64);
    feed(*full, 0, 40);
    feed(*full, 40, 24);
    const auto saved = snapshot(*full);
    for (const int64_t context : {512, 128, 100, 64}) {
      SCOPED_TRACE(context);
      auto other = make(context), fresh = make(context);
      ASSERT_EQ(restored(*other, saved), "");
      EXPECT_EQ(other->position(), 64);
      feed(*fresh, 0, 40);
      feed(*fresh, 40, 24);
      if (context > 100) {
        EXPECT_EQ(feed(*other, 3, 60), feed(*fresh, 3, 60));
      }
      // Taken back and saved as if it had never been elsewhere.
      ASSERT_TRUE(other->rollback(10).is_ok());
      ASSERT_TRUE(fresh->rollback(10).is_ok());
      EXPECT_EQ(feed(*other, 9, 10), feed(*fresh, 9, 10));
      auto again = make(context);
      ASSERT_EQ(restored(*again, snapshot(*other)), "");
    }
    // And back, as long as it fits.
    auto large = make(512), small = make(64), least = make(32);
    feed(*large, 0, 50);
    ASSERT_EQ(restored(*small, snapshot(*large)), "");
    EXPECT_EQ(feed(*small, 5, 10), feed(*large, 5, 10));
    if (!least->plan().is_limited) continue;
    EXPECT_NE(restored(*least, snapshot(*large)), "");
    EXPECT_EQ(least->position(), 0);
  }
}

TEST_F(Saved, WhatDiffersIsNamed) {
  convert("tiny_qwen3_5");
  auto s = make(64);
  feed(*s, 0, 20);
  const auto saved = snapshot(*s);
  EXPECT_EQ(restored(*make(128, 16), saved),
            "not restored: it was saved with context 64 (here 128), chunk 32 (here 16)");
  EXPECT_EQ(restored(*make(64, 32, 20), saved), "not restored: it was saved with rollback window 16 (here 20)");
  EXPECT_EQ(restored(*make(64, 32, 16, DType::kQ8), saved),
            "not restored: it was saved with KV type as the model says (here q8)");
  // A file that says of itself what is not so.
  for (const int64_t context : {int64_t(0), int64_t(-1), int64_t(65), int64_t(1) << 31, INT64_MAX}) {
    auto wrong = saved;
    auto* h = reinterpret_cast<StateHeader*>(wrong.data());
    h->context = context;
    h->layout ^= 1;
    EXPECT_NE(restored(*make(128), wrong), "") << context;
  }
  // Rotary frequencies that follow the context.
  convert("tiny_phi3_long");
  auto phi = make(64);
  feed(*phi, 0, 20);
  EXPECT_EQ(restored(*make(128), snapshot(*phi)), "not restored: it was saved with context 64 (here 128)");
}

// A library whose text part was shorter has saved less of it; one whose is longer may know what this one does not.
TEST_F(Saved, TheTextPartMayBeShorter) {
  convert("tiny_qwen3_5");
  auto s = make(64);
  feed(*s, 0, 20);
  s->text_state()[kTextStateBytes - 1] = 7;
  const auto saved = snapshot(*s);
  const auto with_text = [&](uint32_t bytes, size_t shorter) {
    auto other = saved;
    reinterpret_cast<StateHeader*>(other.data())->text_bytes = bytes;
    const auto end = other.begin() + sizeof(StateHeader) + kTextStateBytes;
    other.erase(end - long(shorter), end);
    const uint64_t sum = xxh64(other.data(), other.size() - 8);
    std::memcpy(other.data() + other.size() - 8, &sum, 8);
    return other;
  };
  auto other = make(64);
  other->text_state()[kTextStateBytes - 1] = 9;
  ASSERT_EQ(restored(*other, with_text(kTextStateBytes - 64, 64)), "");
  EXPECT_EQ(other->text_state()[kTextStateBytes - 1], 0);
  EXPECT_EQ(feed(*other, 3, 10), feed(*s, 3, 10));
  EXPECT_EQ(restored(*other, with_text(kTextStateBytes + 1, 0)),
            "not restored: its text part is that of a newer runtime");
  EXPECT_NE(restored(*other, with_text(kTextStateBytes - 64, 0)), "");
  EXPECT_EQ(other->position(), 30);
}

TEST_F(Saved, NeverOntoTheModelAndWholeAmongThreads) {
  convert("tiny_llama");
  fs::create_symlink("m.rnl", tmp_ / "link");
  fs::create_hard_link(tmp_ / "m.rnl", tmp_ / "hard");
  auto a = make(512), b = make(512), check = make(512);
  feed(*a, 0, 20);
  feed(*b, 0, 400);
  for (const char* name : {"m.rnl", "link", "hard"})
    EXPECT_NE(std::string(a->save((tmp_ / name).c_str()).message()).find("it is the model"), std::string::npos) << name;
  const fs::path path = tmp_ / "same.state";
  for (int round = 0; round < 40; ++round) {
    Status first, second;
    std::thread other([&] { first = a->save(path.c_str()); });
    second = b->save(path.c_str());
    other.join();
    ASSERT_TRUE(first.is_ok() && second.is_ok()) << first.message() << second.message();
    const Status s = check->load(path.c_str());
    ASSERT_TRUE(s.is_ok()) << s.message();
    EXPECT_TRUE(check->position() == 20 || check->position() == 400);
  }
  EXPECT_EQ(tmp_.files(), 4u);
}

}  // namespace
}  // namespace runnel::convert
