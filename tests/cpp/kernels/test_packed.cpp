// Packed sequences: each has the bits of the same sequence alone, and of the same row in a padded
// batch, whatever its neighbours are.
#include "support/catch.h"
#include "support/compare.h"
#include "support/packed.h"

using namespace masked_attn_test;

namespace {

AttentionShape shape_for(int64_t turn) {
  AttentionShape shape;
  shape.kv_heads = 1 + turn % 2;
  shape.heads = shape.kv_heads * (1 + turn % 3);
  shape.head_dim = turn % 2 ? 20 : 16;
  shape.value_dim = turn % 3 ? 19 : 32;
  shape.dtypes = kDTypePairs[turn % kDTypePairCount];
  shape.layout = kLayouts[turn % 3];
  return shape;
}

PackedInputs inputs_for(const std::vector<Lengths>& lengths, int64_t turn) {
  Random random(turn);
  return make_packed(shape_for(turn), lengths, turn % 4 != 0, turn % 5 == 0 ? 50 : 0, &random);
}

// Each sequence against itself alone.
void check(const PackedInputs& in, bool same, int64_t turn) {
  INFO(describe(in.all) << ", turn " << turn);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3],
                             static_cast<uint8_t>(turn % 2 ? 0xff : 0x00)};
    const AttentionResult packed = run_packed(kernels, in, same, options);
    for (size_t n = 0; n < in.rows.size(); ++n) {
      INFO("sequence " << n << ": " << describe(in.rows[n].masks));
      const AttentionResult alone = run_attention(kernels, in.rows[n]);
      REQUIRE(bits_differ(rows_of(packed, in.queries(n)), alone) == "");
    }
  });
}

std::vector<Lengths> of_equal(const std::vector<int64_t>& lengths) {
  std::vector<Lengths> out;
  for (int64_t length : lengths) out.push_back({length, length});
  return out;
}

const std::vector<std::vector<int64_t>> kPrompts = {
    {1},
    {9, 8, 7, 1},
    {0, 5, 0, 0, 17, 0},
    {64, 1, 65, 8, 9, 130, 0, 257},
    {3, 300},
    {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5},
};

// More keys than queries, fewer, none; few queries over many chunks beside many queries.
const std::vector<std::vector<Lengths>> kCross = {
    {{1, 600}, {1, 30}, {1, 257}},
    {{8, 257}, {8, 0}, {0, 5}, {3, 512}},
    {{9, 8}, {30, 70}, {2, 300}, {50, 9}},
    {{0, 0}, {100, 100}, {4, 700}, {12, 300}, {8, 256}},
    {{20, 0}, {1, 0}},
};

}  // namespace

TEST_CASE("packed prompts have the bits of each prompt alone") {
  for (int64_t turn = 0; turn < 36; ++turn) {
    const auto& lengths = kPrompts[turn % kPrompts.size()];
    check(inputs_for(of_equal(lengths), turn), turn / 6 % 2, turn);
  }
}

TEST_CASE("packed sequences with keys of their own have the bits of each alone") {
  for (int64_t turn = 0; turn < 30; ++turn) {
    check(inputs_for(kCross[turn % kCross.size()], turn), false, turn);
  }
}

TEST_CASE("packed sequences agree with the naive loops") {
  for (int64_t turn = 0; turn < 5; ++turn) {
    const PackedInputs in = inputs_for(kCross[turn], turn);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult packed = run_packed(kernels, in, false);
      for (size_t n = 0; n < in.rows.size(); ++n) {
        const AttentionTruth truth(in.rows[n]);
        REQUIRE(truth.differs(rows_of(packed, in.queries(n))) == "");
      }
    });
  }
}

TEST_CASE("packed prompts have the bits of a padded batch") {
  const std::vector<int64_t> lengths = {64, 1, 0, 65, 8, 9, 130, 100};
  for (int64_t turn = 0; turn < 6; ++turn) {
    const PackedInputs in = inputs_for(of_equal(lengths), turn);
    const bool left = turn % 2 == 0;
    AttentionShape shape = shape_for(turn);
    shape.batch = static_cast<int64_t>(lengths.size());
    shape.queries = shape.keys = in.max_queries;
    Random random(100 + turn);
    AttentionInputs padded = make_inputs(shape, &random);
    padded.masks.causal = in.all.masks.causal;
    padded.masks.window = in.all.masks.window;
    padded.masks.add_key_mask();
    std::vector<Range> real;
    for (size_t n = 0; n < lengths.size(); ++n) {
      const int64_t begin = left ? in.max_queries - lengths[n] : 0;
      real.push_back({begin, begin + lengths[n]});
      for (int64_t j = 0; j < shape.keys; ++j) {
        padded.masks.key(n, j) = j >= begin && j < begin + lengths[n];
      }
      const auto copy = [&](const Tensor& from, Tensor* to) {
        from.for_each([&](auto, auto h, auto i, auto d) {
          to->set(n, h, begin + i, d, from.get(0, h, i, d));
        });
      };
      copy(in.rows[n].query, &padded.query);
      copy(in.rows[n].key, &padded.key);
      copy(in.rows[n].value, &padded.value);
    }
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult packed = run_packed(kernels, in, true);
      const AttentionResult batch = run_attention(kernels, padded);
      for (size_t n = 0; n < lengths.size(); ++n) {
        const AttentionResult row{batch.out.slice(n, real[n]), batch.logsumexp.slice(n, real[n])};
        REQUIRE(bits_differ(rows_of(packed, in.queries(n)), row) == "");
      }
    });
  }
}

TEST_CASE("garbage in a packed sequence stays there") {
  const std::vector<Lengths> lengths = {{70, 70}, {9, 9}, {3, 300}, {66, 80}, {5, 5}};
  for (size_t dirty = 0; dirty < lengths.size(); ++dirty) {
    const PackedInputs clean = inputs_for(lengths, 1 + dirty);
    PackedInputs in = clean;
    const auto spoil = [&](Tensor* tensor, Range rows) {
      tensor->for_each([&](auto, auto h, auto i, auto d) {
        if (i >= rows.begin && i < rows.end) tensor->set(0, h, i, d, i % 2 ? kNaN : kInfinity);
      });
    };
    spoil(&in.all.query, in.queries(dirty));
    spoil(&in.all.key, in.keys(dirty));
    spoil(&in.all.value, in.keys(dirty));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult expected = run_packed(kernels, clean, false);
      const AttentionResult found = run_packed(kernels, in, false);
      for (size_t n = 0; n < lengths.size(); ++n) {
        if (n == dirty) continue;
        REQUIRE(bits_differ(rows_of(found, in.queries(n)), rows_of(expected, in.queries(n))) == "");
      }
    });
  }
}

TEST_CASE("packed: no sequences, or only empty ones") {
  for (const auto& lengths : {std::vector<Lengths>{}, std::vector<Lengths>{{0, 0}},
                              std::vector<Lengths>{{0, 3}, {0, 0}}}) {
    check(inputs_for(lengths, 3), false, 3);
  }
}

TEST_CASE("packed: lengths above the real ones change no bit") {
  PackedInputs in = inputs_for(kCross[3], 2);
  in.max_queries += 1000;
  in.max_keys += 1000;
  check(in, false, 2);
}
