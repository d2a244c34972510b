// masked_attention against the naive loops: sizes, head sizes, dtypes, layouts, masks, groups.
#include <array>

#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

// Every instruction set, with one choice of threads and output layout taken from `turn`.
void check(const AttentionInputs& in, int64_t turn) {
  INFO(describe(in) << ", turn " << turn);
  const AttentionTruth truth(in);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3]};
    REQUIRE(truth.differs(run_attention(kernels, in, options)) == "");
  });
}

void check(const AttentionShape& shape, int64_t mask_index, int64_t turn) {
  Random random(turn);
  AttentionInputs in = make_inputs(shape, &random);
  set_masks(&in.masks, mask_index % kMaskCount, &random);
  check(in, turn);
}

AttentionInputs one_row_inputs(int64_t queries, int64_t keys, int64_t head_dim) {
  Random random(queries * 1000 + keys);
  AttentionShape shape;
  shape.queries = queries;
  shape.keys = keys;
  shape.head_dim = head_dim;
  return make_inputs(shape, &random);
}

}  // namespace

TEST_CASE("attention at sizes around tiles, chunks, blocks and vectors") {
  int64_t turn = 0;
  for (int64_t queries : kLengths) {
    for (int64_t keys : kLengths) {
      ++turn;
      const bool small = queries * keys < 20000;
      AttentionShape shape;
      shape.queries = queries;
      shape.keys = keys;
      shape.batch = small ? 2 : 1;
      shape.kv_heads = small ? 1 + turn % 2 : 1;
      shape.heads = shape.kv_heads * (small ? 1 + turn % 3 : 1);
      shape.head_dim = kHeadSizes[turn % (small ? kHeadSizeCount : 6)];
      shape.value_dim = turn % 4 ? shape.head_dim : kHeadSizes[turn % 7 % 5];
      shape.dtypes = kDTypePairs[turn % kDTypePairCount];
      shape.layout = kLayouts[turn % 3];
      check(shape, 5 * turn, turn);
    }
  }
}

TEST_CASE("attention with every head size, and values of another size") {
  constexpr int64_t kSizes[][2] = {{3, 70}, {8, 300}, {55, 70}, {100, 131}};
  int64_t turn = 0;
  for (const auto& size : kSizes) {
    for (int64_t head_dim : kHeadSizes) {
      for (int64_t value_dim : kHeadSizes) {
        ++turn;
        const bool different = (turn + head_dim) % 3 == 0;
        if (head_dim != value_dim && !different) continue;
        AttentionShape shape;
        shape.heads = 2;
        shape.kv_heads = 1;
        shape.queries = size[0];
        shape.keys = size[1];
        shape.head_dim = head_dim;
        shape.value_dim = value_dim;
        shape.dtypes = kDTypePairs[turn % kDTypePairCount];
        shape.layout = kLayouts[turn % 3];
        check(shape, 11 * turn, turn);
      }
    }
  }
}

TEST_CASE("attention with every combination of masks, few queries and many") {
  constexpr int64_t kSizes[][2] = {{5, 300}, {60, 131}, {90, 70}};
  int64_t turn = 0;
  for (const auto& size : kSizes) {
    for (int64_t index = 0; index < kMaskCount; ++index) {
      ++turn;
      AttentionShape shape;
      shape.batch = 2;
      shape.heads = 2;
      shape.kv_heads = 1 + turn % 2;
      shape.queries = size[0];
      shape.keys = size[1];
      shape.head_dim = 8 + turn % 9;
      shape.value_dim = 8 + turn % 17;
      shape.dtypes = kDTypePairs[turn % kDTypePairCount];
      check(shape, index, turn);
    }
  }
}

TEST_CASE("attention with every grouping of heads, dtype and layout") {
  constexpr int64_t kHeads[][2] = {{1, 1}, {4, 4}, {4, 2}, {6, 2}, {12, 1}};
  int64_t turn = 0;
  for (const auto& heads : kHeads) {
    for (const DTypePair& dtypes : kDTypePairs) {
      for (Layout layout : kLayouts) {
        for (int64_t queries : {1, 8, 61}) {
          ++turn;
          AttentionShape shape;
          shape.batch = 3;
          shape.heads = heads[0];
          shape.kv_heads = heads[1];
          shape.queries = queries;
          shape.keys = 61 + turn % 20;
          shape.head_dim = 20;
          shape.value_dim = 24;
          shape.dtypes = dtypes;
          shape.layout = layout;
          check(shape, 17 * turn, turn);
        }
      }
    }
  }
}

TEST_CASE("attention with rows of few visible keys takes every length around the limit") {
  AttentionShape shape;
  shape.batch = 13;
  shape.queries = 40;
  shape.keys = 80;
  Random random(1);
  AttentionInputs in = make_inputs(shape, &random);
  in.masks.add_key_mask();
  for (int64_t b = 0; b < 13; ++b) {
    for (int64_t j = 0; j < 80; ++j) in.masks.key(b, j) = j >= 35 && j < 35 + b;
  }
  for (bool causal : {false, true}) {
    in.masks.causal = causal;
    check(in, causal);
  }
}

TEST_CASE("attention with scale 0, negative, and scores past the range of float16") {
  for (double scale : {0.0, -0.3, 1.0}) {
    for (int64_t queries : {4, 50}) {
      AttentionInputs in = one_row_inputs(queries, 70, 16);
      in.scale = scale;
      check(in, 0);
    }
  }
  AttentionShape shape;
  shape.queries = 20;
  shape.keys = 30;
  shape.dtypes = {DType::kFloat16, DType::kFloat16};
  Random random(2);
  AttentionInputs in = make_inputs(shape, &random);
  in.query.randomize(&random, 1000, 1010);
  in.key.randomize(&random, 1000, 1010);
  in.scale = 1e-5;
  check(in, 0);
}

TEST_CASE("attention with scores that rise and fall from tile to tile") {
  // The maximum moves in some tiles and not in others; far weights underflow to 0.
  for (bool rising : {true, false}) {
    for (int64_t queries : {2, 30}) {
      AttentionInputs in = one_row_inputs(queries, 600, 4);
      in.key.for_each([&](auto b, auto h, auto j, auto d) {
        const double level = rising ? j / 50 : (600 - j) / 50;
        in.key.set(b, h, j, d, level + in.key.get(b, h, j, d));
      });
      in.scale = 2;
      check(in, 0);
    }
  }
}

TEST_CASE("attention without head_dim gives the mean of the visible values") {
  for (int64_t queries : {3, 30}) {
    AttentionInputs in = one_row_inputs(queries, 70, 0);
    in.scale = 1;
    in.masks.causal = true;
    check(in, 0);
  }
}

TEST_CASE("attention of empty batches, queries, keys and values") {
  int64_t turn = 0;
  for (const auto& [batch, queries, keys, value_dim] : {std::array<int64_t, 4>{0, 3, 4, 8},
                                                        {2, 0, 4, 8},
                                                        {2, 3, 0, 8},
                                                        {2, 30, 0, 8},
                                                        {2, 3, 4, 0},
                                                        {2, 30, 40, 0}}) {
    AttentionShape shape;
    shape.batch = batch;
    shape.heads = 2;
    shape.queries = queries;
    shape.keys = keys;
    shape.value_dim = value_dim;
    Random random(1);
    check(make_inputs(shape, &random), ++turn);
  }
}

TEST_CASE("attention without logsumexp gives the same output") {
  const AttentionInputs in = one_row_inputs(60, 70, 16);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const AttentionResult expected = run_attention(kernels, in);
    Tensor out(DType::kFloat32, 1, 1, 60, 16);
    masked_attn::AttentionParams p = attention_params(in);
    p.out = out.view();
    run_guarded(kernels.attention, p, masked_attn::cpu::attention_workspace(p), {}, out);
    REQUIRE(bits_differ(out, expected.out) == "");
  });
}

TEST_CASE("attention with a stride of 0 has the bits of the copied tensor") {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 4;
  shape.kv_heads = 4;
  shape.keys = 70;
  for (int64_t queries : {3, 50}) {
    shape.queries = queries;
    Random random(1);
    AttentionInputs in = make_inputs(shape, &random);
    // All rows and heads of the key are those of the first.
    in.key.for_each(
        [&](auto b, auto h, auto j, auto d) { in.key.set(b, h, j, d, in.key.get(0, 0, j, d)); });
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult expected = run_attention(kernels, in);
      Tensor out(DType::kFloat32, 2, 4, queries, 16);
      masked_attn::AttentionParams p = attention_params(in);
      p.out = out.view();
      p.key.batch_stride = 0;
      p.key.head_stride = 0;
      run_guarded(kernels.attention, p, masked_attn::cpu::attention_workspace(p), {}, out);
      REQUIRE(bits_differ(out, expected.out) == "");
    });
  }
}
