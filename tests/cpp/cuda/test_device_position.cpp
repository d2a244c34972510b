// A position that only the device knows, as a captured decode step has it: the result must have the
// bits of the same call with the position known to the host. Slots behind the last hold NaN, and
// their bits in the mask are set: neither may be looked at.
#include "support/compare.h"
#include "support/run.h"
#include "support/score_parts.h"

using namespace masked_attn_test;

namespace {

constexpr int64_t kCapacity = 530;

Tensor first_rows(const Tensor& cache, int64_t rows) {
  Tensor part(cache.dtype(), cache.batch(), cache.heads(), rows, cache.columns());
  part.for_each(
      [&](auto b, auto h, auto i, auto d) { part.set(b, h, i, d, cache.get(b, h, i, d)); });
  return part;
}

// The rows of `whole` up to `keys` are real, the others are NaN.
AttentionInputs with_capacity(const AttentionInputs& whole, int64_t keys) {
  AttentionInputs in = whole;
  for (Tensor* cache : {&in.key, &in.value}) {
    cache->for_each([&](auto b, auto h, auto i, auto d) {
      if (i >= keys) cache->set(b, h, i, d, kNaN);
    });
  }
  return in;
}

AttentionResult run_with_device_position(const AttentionInputs& in, const int64_t* position) {
  masked_attn::AttentionParams p = attention_params(in);
  p.device_position = position;
  AttentionResult result;
  result.out = Tensor(in.query.dtype(), p.batch, p.heads, p.mask.queries, p.value_dim);
  result.logsumexp = Tensor(DType::kFloat32, p.batch, p.heads, p.mask.queries, 1);
  p.out = result.out.view();
  p.logsumexp = result.logsumexp.view();
  run_guarded(emulated_cuda_kernels().attention, p, {0, 0}, {}, result.out);
  return result;
}

}  // namespace

TEST_CASE("attention with a position on the device has the bits of one on the host") {
  Random random(11);
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.keys = kCapacity;
  shape.head_dim = 40;
  shape.value_dim = 70;
  for (const int64_t queries : {1, 5, 8, 9, 33}) {
    shape.queries = queries;
    AttentionInputs whole = make_inputs(shape, &random);
    for (const int64_t position : {0, 3, 31, 255, 256, 490, 497}) {
      const int64_t keys = position + queries;
      if (position % 2 != 0) add_parts({true, true, true}, true, &whole, &random);
      INFO(queries << " queries at " << position);
      AttentionInputs device = with_capacity(whole, keys);
      device.masks = Masks{2, 4, queries, kCapacity, true};
      device.masks.add_key_mask();
      AttentionInputs host = whole;
      host.key = first_rows(whole.key, keys);
      host.value = first_rows(whole.value, keys);
      host.masks = Masks{2, 4, queries, keys, true};
      host.masks.add_key_mask();
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t k = 0; k < kCapacity; ++k) {
          const bool seen = k >= b * (position / 2);
          device.masks.key(b, k) = seen;
          if (k < keys) host.masks.key(b, k) = seen;
        }
      }
      const AttentionResult expected = run_attention(emulated_cuda_kernels(), host);
      const AttentionResult result = run_with_device_position(device, &position);
      REQUIRE(bits_differ(result.out, expected.out) == "");
      REQUIRE(bits_differ(result.logsumexp, expected.logsumexp) == "");
    }
  }
}

TEST_CASE("a position on the device is moved into the cache") {
  constexpr int64_t kRows = 3;
  Random random(12);
  const Tensor source = Tensor(DType::kFloat32, 2, 2, kRows, 16).randomize(&random);
  const struct {
    int64_t wanted;
    int64_t used;
  } cases[] = {{0, 0}, {4, 4}, {7, 7}, {8, 7}, {int64_t{1} << 62, 7}, {-1, 0}};
  for (const auto& c : cases) {
    INFO("position " << c.wanted);
    Tensor expected(DType::kFloat32, 2, 2, 10, 16);
    run_append(emulated_cuda_kernels(), source, c.used, &expected);
    Tensor cache(DType::kFloat32, 2, 2, 10, 16);
    masked_attn::AppendParams p{};
    p.batch = 2;
    p.heads = 2;
    p.rows = kRows;
    p.columns = 16;
    p.device_position = &c.wanted;
    p.capacity = 10;
    p.cache = cache.view();
    p.source = source.view();
    REQUIRE(emulated_cuda_kernels().append_cache(p) == 0);
    REQUIRE(bits_differ(cache, expected) == "");
  }
}
