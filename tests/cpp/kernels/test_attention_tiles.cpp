// Attention of bfloat16 at the edges of tiles of 16 queries, 16 and 32 keys and head elements, and
// 16 columns of values; on every set, and on the stand-in for those of `amx`.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

AttentionInputs bfloat16_inputs(int64_t queries, int64_t keys, int64_t head_dim, int64_t value_dim,
                                Random* random) {
  AttentionShape shape;
  shape.heads = shape.kv_heads = 2;
  shape.queries = queries;
  shape.keys = keys;
  shape.head_dim = head_dim;
  shape.value_dim = value_dim;
  shape.dtypes = {DType::kBFloat16, DType::kBFloat16};
  shape.layout = kLayouts[random->below(3)];
  return make_inputs(shape, random);
}

// The row with other queries above and below, and keys that nobody sees around it.
AttentionInputs in_company(const AttentionInputs& alone, int64_t above, int64_t below,
                           Random* random) {
  const int64_t queries = alone.query.rows() + above + below;
  const int64_t keys = alone.key.rows() + above + below;
  AttentionInputs in =
      bfloat16_inputs(queries, keys, alone.query.columns(), alone.value.columns(), random);
  in.scale = alone.scale;
  in.masks.causal = alone.masks.causal;
  in.masks.has_key_mask = true;
  in.masks.key_mask.assign(keys, 0);
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t i = 0; i < alone.query.rows(); ++i) {
      for (int64_t d = 0; d < alone.query.columns(); ++d) {
        in.query.set(0, h, above + i, d, alone.query.get(0, h, i, d));
      }
    }
    for (int64_t j = 0; j < keys; ++j) {
      const bool real = j >= above && j < above + alone.key.rows();
      in.masks.key_mask[j] = real;
      for (int64_t d = 0; d < alone.key.columns(); ++d) {
        in.key.set(0, h, j, d, real ? alone.key.get(0, h, j - above, d) : kNaN);
      }
      for (int64_t d = 0; d < alone.value.columns(); ++d) {
        in.value.set(0, h, j, d, real ? alone.value.get(0, h, j - above, d) : kInfinity);
      }
    }
  }
  return in;
}

}  // namespace

TEST_CASE("bfloat16 attention at sizes around tiles") {
  constexpr int64_t kHeads[] = {2, 14, 16, 18, 30, 32, 34, 48, 64, 66};
  constexpr int64_t kValues[] = {1, 15, 16, 17, 33, 49, 64, 65, 80};
  constexpr int64_t kSizes[] = {9, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 79, 97, 130};
  int64_t turn = 0;
  for (int64_t head_dim : kHeads) {
    for (int64_t i = 0; i < 9; ++i) {
      ++turn;
      Random random(turn);
      AttentionInputs in = bfloat16_inputs(kSizes[(turn * 7) % 15], kSizes[turn % 15], head_dim,
                                           kValues[(turn + i) % 9], &random);
      set_masks(&in.masks, turn * 5 % kMaskCount, &random);
      INFO(describe(in));
      const AttentionTruth truth(in);
      for_each_isa([&](const Kernels& kernels, const char*) {
        REQUIRE(truth.differs(run_attention(kernels, in)) == "");
      });
    }
  }
}

TEST_CASE("bfloat16 attention: a row has the same bits in any company, whatever lies around it") {
  int64_t turn = 0;
  for (int64_t queries : {9, 16, 17, 33, 50, 64, 100}) {
    for (int64_t head_dim : {16, 64, 72}) {
      ++turn;
      Random random(turn);
      AttentionInputs alone =
          bfloat16_inputs(queries, queries, head_dim, 16 * (turn % 5) + 7, &random);
      alone.masks.causal = turn % 4 != 0;
      const int64_t above = random.below(20), below = random.below(90);
      const AttentionInputs in = in_company(alone, above, below, &random);
      INFO(describe(alone) << ", " << above << " above, " << below << " below");
      for_each_isa([&](const Kernels& kernels, const char*) {
        const AttentionResult expected = run_attention(kernels, alone);
        const RunOptions options{kAllWorkers[turn % kWorkersCount], Layout::kGaps, 0x7f};
        const AttentionResult found = run_attention(kernels, in, options);
        const Range rows{above, above + queries};
        REQUIRE(bits_differ({found.out.slice(0, rows), found.logsumexp.slice(0, rows)}, expected) ==
                "");
      });
    }
  }
}

// A weight of several parts has parts of both signs: an Inf must not meet its own negative.
TEST_CASE("bfloat16 attention: a visible Inf is Inf, and the rest of its tile is as before") {
  Random random(1);
  AttentionInputs clean = bfloat16_inputs(40, 70, 32, 40, &random);
  clean.masks.causal = true;
  AttentionInputs dirty = clean;
  dirty.value.set(0, 0, 5, 3, kInfinity);
  dirty.value.set(0, 1, 66, 39, -kInfinity);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const AttentionResult expected = run_attention(kernels, clean);
    const AttentionResult found = run_attention(kernels, dirty);
    found.out.for_each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      const bool up = h == 0 && d == 3;
      const bool down = h == 1 && d == 39 && visible(clean.masks, b, h, i, 66);
      const double value = found.out.get(b, h, i, d);
      const bool right = up     ? value == kInfinity
                         : down ? value == -kInfinity
                                : found.out.bits(b, h, i, d) == expected.out.bits(b, h, i, d);
      if (!right) FAIL("wrong at " << place_text(b, h, i, d) << ": " << value);
    });
  });
}
