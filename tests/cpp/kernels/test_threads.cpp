// The contract with the caller's threads: error codes come back, workers stay within the count.
#include <atomic>

#include "support/cases.h"
#include "support/catch.h"
#include "support/run.h"

using namespace masked_attn_test;

namespace {

constexpr int32_t kError = 7;

int32_t failing(int64_t, int64_t, int64_t, masked_attn::ParallelFunc, void*) { return kError; }

std::atomic<int64_t> calls;
std::atomic<int64_t> most_workers;

int32_t counting(int64_t begin, int64_t end, int64_t grain, masked_attn::ParallelFunc function,
                 void* context) {
  ++calls;
  if (begin != 0 || grain != 1) return kError;
  most_workers = std::max<int64_t>(most_workers, end);
  function(begin, end, context);
  return 0;
}

AttentionInputs enough_work() {
  AttentionShape shape;
  shape.batch = 4;
  shape.heads = 4;
  shape.kv_heads = 4;
  shape.queries = 64;
  shape.keys = 64;
  shape.head_dim = 64;
  Random random(1);
  return make_inputs(shape, &random);
}

// Runs every kernel with `parallel_for` and hands its result to `check(name, code)`.
template <class Check>
void run_all(const Kernels& kernels, masked_attn::ParallelFor parallel_for, int64_t count,
             const Check& check) {
  const AttentionInputs in = enough_work();
  Tensor out(DType::kFloat32, 4, 4, 64, 64);
  masked_attn::AttentionParams a = attention_params(in);
  a.out = out.view();
  const auto size = masked_attn::cpu::attention_workspace(a);
  const GuardedMemory shared(1, size.shared_bytes, 0xff);
  const GuardedMemory workers(count, size.worker_bytes, 0xff);
  a.workspace = {shared.data(), workers.data(), workers.stride()};
  a.threads = {parallel_for, count};
  check("attention", kernels.attention(a));

  masked_attn::SoftmaxParams s{};
  s.batch = 4;
  s.heads = 4;
  s.out = out.view();
  s.scores = in.query.view();
  s.mask = a.mask;
  s.scale = 1;
  const auto softmax_size = masked_attn::cpu::softmax_workspace(s);
  const GuardedMemory softmax_shared(1, softmax_size.shared_bytes, 0xff);
  const GuardedMemory softmax_workers(count, softmax_size.worker_bytes, 0xff);
  s.workspace = {softmax_shared.data(), softmax_workers.data(), softmax_workers.stride()};
  s.threads = a.threads;
  check("masked_softmax", kernels.masked_softmax(s));

  masked_attn::ExpandParams e{4, out.view().data, 4, 1, a.mask, a.threads};
  check("expand_mask", kernels.expand_mask(e));

  masked_attn::AppendParams p{4, 4, 64, 64, 0, nullptr, 0, out.view(), in.query.view(), a.threads};
  check("append_cache", kernels.append_cache(p));
}

}  // namespace

TEST_CASE("an error of the caller's threads comes back") {
  for_each_isa([&](const Kernels& kernels, const char*) {
    run_all(kernels, failing, 3, [](const char* name, int32_t code) {
      INFO(name);
      REQUIRE(code == kError);
    });
  });
}

TEST_CASE("one worker needs no threads") {
  for_each_isa([&](const Kernels& kernels, const char*) {
    run_all(kernels, failing, 1, [](const char* name, int32_t code) {
      INFO(name);
      REQUIRE(code == 0);
    });
  });
}

TEST_CASE("kernels ask for at most the given number of workers, with grain 1") {
  for_each_isa([&](const Kernels& kernels, const char*) {
    calls = 0;
    most_workers = 0;
    run_all(kernels, counting, 3, [](const char* name, int32_t code) {
      INFO(name);
      REQUIRE(code == 0);
    });
    REQUIRE(calls == 4);
    REQUIRE(most_workers == 3);
  });
}
