// What masked_attention promises without any tolerance, per instruction set: bits that depend on no
// neighbour, padding, thread or layout, and masked keys that have no influence at all.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

AttentionShape shape_for(int64_t turn, int64_t queries, int64_t keys) {
  AttentionShape shape;
  shape.batch = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.queries = queries;
  shape.keys = keys;
  shape.head_dim = turn % 2 ? 20 : 16;
  shape.value_dim = turn % 3 ? 19 : 32;
  shape.dtypes = kDTypePairs[turn % kDTypePairCount];
  return shape;
}

AttentionInputs in_layout(const AttentionInputs& in, Layout layout) {
  AttentionInputs out = in;
  out.query = in.query.copy(layout);
  out.key = in.key.copy(layout);
  out.value = in.value.copy(layout);
  return out;
}

// One row of the batch, and of it only some queries and keys.
AttentionInputs row_alone(const AttentionInputs& in, int64_t b, Range queries, Range keys) {
  AttentionInputs out = in;
  out.query = in.query.slice(b, queries);
  out.key = in.key.slice(b, keys);
  out.value = in.value.slice(b, keys);
  out.masks = in.masks.slice(b, queries, keys);
  return out;
}

AttentionResult row_of(const AttentionResult& result, int64_t b, Range queries) {
  return {result.out.slice(b, queries), result.logsumexp.slice(b, queries)};
}

// Row 1 is one run of visible keys, garbage elsewhere; row 0 is of another length.
AttentionInputs padded_batch(const AttentionShape& shape, Range real, Random* random) {
  AttentionInputs in = make_inputs(shape, random);
  in.masks.add_key_mask();
  for (int64_t j = 0; j < shape.keys; ++j) {
    in.masks.key(0, j) = j > shape.keys / 3;
    in.masks.key(1, j) = j >= real.begin && j < real.end;
  }
  for (Tensor* tensor : {&in.key, &in.value}) {
    tensor->for_each([&](auto b, auto h, auto j, auto d) {
      if (in.masks.key(b, j) == 0) tensor->set(b, h, j, d, j % 2 ? kNaN : kInfinity);
    });
  }
  return in;
}

void check_alone(const AttentionInputs& padded, Range queries, Range keys, int64_t turn) {
  AttentionInputs alone = row_alone(padded, 1, queries, keys);
  if (turn % 2) alone.masks.has_key_mask = false;
  INFO(describe(padded));
  for_each_isa([&](const Kernels& kernels, const char*) {
    const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3]};
    const AttentionResult in_batch =
        run_attention(kernels, in_layout(padded, kLayouts[turn % 3]), options);
    REQUIRE(bits_differ(run_attention(kernels, alone), row_of(in_batch, 1, queries)) == "");
  });
}

constexpr int64_t kRowLengths[] = {1,  2,  7,   8,   9,   10,  47,  48,  49,  63,
                                   64, 65, 127, 128, 129, 255, 256, 257, 258, 299};

}  // namespace

TEST_CASE("a padded prompt has the bits of the prompt alone") {
  constexpr int64_t kLength = 300;
  int64_t turn = 0;
  for (int64_t length : kRowLengths) {
    for (int64_t begin : {int64_t{0}, (kLength - length) / 2, kLength - length}) {
      ++turn;
      Random random(turn);
      const Range real{begin, begin + length};
      AttentionInputs in = padded_batch(shape_for(turn, kLength, kLength), real, &random);
      in.masks.causal = turn % 4 != 0;
      in.masks.window = turn % 5 == 0 ? 50 : 0;
      if (turn % 3 == 0) set_attn_mask(&in.masks, kAttnForms[1 + turn % 8], &random);
      check_alone(in, real, real, turn);
    }
  }
}

TEST_CASE("a decode step of a padded row has the bits of the row alone") {
  constexpr int64_t kKeys = 600;
  int64_t turn = 0;
  for (int64_t queries : {1, 3, 8, 9, 30}) {
    for (int64_t length : {30, 64, 65, 255, 256, 257, 512, 513, 599}) {
      ++turn;
      Random random(turn);
      const Range real{kKeys - length, kKeys};
      AttentionInputs in = padded_batch(shape_for(turn, queries, kKeys), real, &random);
      in.masks.causal = turn % 4 != 0;
      in.masks.window = turn % 5 == 0 ? 20 : 0;
      if (turn % 3 == 0) set_attn_mask(&in.masks, kAttnForms[1 + turn % 8], &random);
      check_alone(in, {0, queries}, real, turn);
    }
  }
}

TEST_CASE("more masked keys behind or before change no bit, holes or not") {
  for (int64_t turn = 0; turn < 40; ++turn) {
    Random random(turn);
    const int64_t queries = turn % 2 ? 5 : 60;
    AttentionInputs in = make_inputs(shape_for(turn, queries, 400), &random);
    in.masks.add_key_mask();
    const Range real{turn * 3, 400 - turn * 2};
    for (int64_t j = 0; j < 400; ++j) {
      in.masks.key(1, j) = j >= real.begin && j < real.end && random.chance(0.8);
    }
    in.masks.key(1, real.begin) = 1;
    check_alone(in, {0, queries}, real, 0);
  }
}

TEST_CASE("threads, layouts and what the workspace held change no bit") {
  constexpr int64_t kSizes[][2] = {{1, 700}, {6, 267}, {20, 70}, {129, 267}};
  int64_t turn = 0;
  for (const auto& size : kSizes) {
    for (int64_t index = 3; index < kMaskCount; index += 41) {
      ++turn;
      Random random(turn);
      AttentionInputs in = make_inputs(shape_for(turn, size[0], size[1]), &random);
      set_masks(&in.masks, index, &random);
      INFO(describe(in));
      for_each_isa([&](const Kernels& kernels, const char*) {
        const AttentionResult expected = run_attention(kernels, in);
        for (const Workers& workers : kAllWorkers) {
          const Layout layout = kLayouts[(workers.count + turn) % 3];
          const uint8_t poison = turn % 2 ? 0x00 : 0x7f;
          const RunOptions options{workers, layout, poison};
          const AttentionResult found = run_attention(kernels, in_layout(in, layout), options);
          REQUIRE(bits_differ(found, expected) == "");
        }
      });
    }
  }
}

TEST_CASE("the order of the rows in a batch changes no bit") {
  for (int64_t queries : {2, 50}) {
    Random random(queries);
    AttentionShape shape = shape_for(0, queries, 300);
    shape.batch = 5;
    AttentionInputs in = make_inputs(shape, &random);
    set_key_mask(&in.masks, KeyForm::kLeft, &random);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult all = run_attention(kernels, in, {kAllWorkers[3]});
      for (int64_t b = 0; b < 5; ++b) {
        const AttentionInputs one = row_alone(in, b, {0, queries}, {0, 300});
        const AttentionResult alone = run_attention(kernels, one);
        REQUIRE(bits_differ(alone, row_of(all, b, {0, queries})) == "");
      }
    });
  }
}

TEST_CASE("a query that sees nothing gives exactly 0 and logsumexp -inf") {
  for (int64_t index = 0; index < kMaskCount; ++index) {
    Random random(index);
    AttentionInputs in = make_inputs(shape_for(index, index % 2 ? 70 : 4, 66), &random);
    set_masks(&in.masks, index, &random);
    INFO(describe(in));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult result = run_attention(kernels, in);
      result.logsumexp.for_each([&](auto b, auto h, auto i, auto) {
        bool sees = false;
        for (int64_t j = 0; j < 66; ++j) sees = sees || visible(in.masks, b, h, i, j);
        const bool empty = result.logsumexp.get(b, h, i, 0) == -kInfinity;
        if (empty == sees) FAIL("logsumexp is wrong at " << place_text(b, h, i, 0));
        if (sees) return;
        for (int64_t d = 0; d < in.value.columns(); ++d) {
          if (result.out.bits(b, h, i, d) != 0) FAIL("not 0 at " << place_text(b, h, i, d));
        }
      });
    });
  }
}

TEST_CASE("a bias of -1e9 hides nothing by itself") {
  for (int64_t queries : {4, 40}) {
    Random random(1);
    AttentionInputs in = make_inputs(shape_for(0, queries, 70), &random);
    AttnMask& mask = in.masks.add_attn(DType::kFloat32, {false, false, true, true});
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t j = 0; j < 70; ++j) mask.set(0, 0, i, j, i % 2 && j == 20 ? 0 : -1e9);
    }
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult result = run_attention(kernels, in);
      for (int64_t d = 0; d < in.value.columns(); ++d) {
        // Beside one unbiased key the others weigh exactly 0; without it all weigh the same.
        REQUIRE(result.out.get(1, 0, 1, d) == in.value.get(1, 0, 20, d));
        double mean = 0;
        for (int64_t j = 0; j < 70; ++j) mean += in.value.get(1, 0, j, d) / 70;
        REQUIRE(within(result.out.get(1, 0, 0, d), mean, 1e-6));
      }
    });
  }
}
