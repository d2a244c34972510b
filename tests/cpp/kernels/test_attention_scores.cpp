// Softcap and ALiBi slopes, alone and with sinks: against the naive loops on every path, and what
// they promise bit for bit.
#include "support/catch.h"
#include "support/packed.h"
#include "support/score_parts.h"

using namespace masked_attn_test;

namespace {

AttentionInputs row_alone(const AttentionInputs& in, int64_t b, Range queries, Range keys) {
  AttentionInputs out = in;
  out.query = in.query.slice(b, queries);
  out.key = in.key.slice(b, keys);
  out.value = in.value.slice(b, keys);
  out.masks = in.masks.slice(b, queries, keys);
  for (Tensor* values : {&out.alibi_slopes, &out.sinks}) {
    if (values->batch() > 1) *values = values->slice(b, {0, 1});
  }
  return out;
}

// One query that sees one key alone: its logsumexp is the score. `keys` above 8 take query tiles.
AttentionInputs lone_scores(const std::vector<double>& scores, DType dtype, int64_t keys) {
  const auto queries = static_cast<int64_t>(scores.size());
  AttentionInputs in;
  in.query = Tensor(dtype, 1, 1, queries, 1);
  for (int64_t i = 0; i < queries; ++i) in.query.set(0, 0, i, 0, scores[i]);
  in.key = Tensor(dtype, 1, 1, keys, 1);
  in.value = Tensor(dtype, 1, 1, keys, 1);
  for (int64_t j = 0; j < keys; ++j) {
    in.key.set(0, 0, j, 0, 1);
    in.value.set(0, 0, j, 0, 1);
  }
  in.masks.queries = queries;
  in.masks.keys = keys;
  AttnMask& mask = in.masks.add_attn(DType::kBool, {false, false, true, true});
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) mask.set(0, 0, i, j, j == i % keys);
  }
  return in;
}

}  // namespace

TEST_CASE("softcap, slopes and sinks on every path, with every kind of mask") {
  for (int64_t turn = 0; turn < 378; ++turn) {
    Random random(turn);
    AttentionInputs in = inputs_of_path(turn, turn / 2, &random);
    set_masks(&in.masks, turn * 5 % kMaskCount, &random);
    const ScoreParts& parts = kScoreParts[turn % kScorePartsCount];
    add_parts(parts, turn % 2, &in, &random);
    INFO(describe(parts) << ": " << describe(in) << ", turn " << turn);
    const AttentionTruth truth(in);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3]};
      REQUIRE(truth.differs(run_attention(kernels, in, options)) == "");
    });
  }
}

TEST_CASE("a capped score is right to a few units of the last place, however small") {
  std::vector<double> scores;
  Random random(1);
  for (int64_t n = 0; n < 1000; ++n) {
    const double size = std::exp2(random.uniform(-100, 9));
    scores.push_back(n % 2 ? size : -size);
    scores.push_back(random.uniform(-6, 6));
  }
  for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (double cap : {1.0, 30.0, 0.7}) {
      for (int64_t keys : {8, 40}) {
        AttentionInputs in = lone_scores(scores, dtype, keys);
        in.softcap = cap;
        INFO(dtype_name(dtype) << ", softcap " << cap << ", keys " << keys);
        for_each_isa([&](const Kernels& kernels, const char*) {
          const AttentionResult found = run_attention(kernels, in);
          double worst = 0;
          found.logsumexp.for_each([&](auto b, auto h, auto i, auto d) {
            const double truth = cap * std::tanh(in.query.get(b, h, i, d) / cap);
            const double error = std::fabs(found.logsumexp.get(b, h, i, d) - truth);
            worst = std::max(worst, error / std::fabs(truth));
          });
          CAPTURE(worst / epsilon(dtype));
          REQUIRE(worst < 4 * epsilon(dtype));
        });
      }
    }
  }
}

TEST_CASE("softcap of NaN is NaN, and of infinite scores the cap") {
  for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (int64_t keys : {8, 40}) {
      AttentionInputs in = lone_scores({kInfinity, -kInfinity, kNaN, 0, 1e30, -1e30}, dtype, keys);
      in.softcap = 3;
      for_each_isa([&](const Kernels& kernels, const char*) {
        const Tensor found = run_attention(kernels, in).logsumexp;
        const double truth[] = {3, -3, kNaN, 0, 3, -3};
        for (int64_t i = 0; i < 6; ++i) {
          INFO("score " << in.query.get(0, 0, i, 0));
          if (i == 2) {
            REQUIRE(std::isnan(found.get(0, 0, i, 0)));
          } else {
            REQUIRE(found.get(0, 0, i, 0) == truth[i]);
          }
        }
      });
    }
  }
}

TEST_CASE("a large softcap has the bits of none, and no size of it makes NaN") {
  for (int64_t turn = 0; turn < 18; ++turn) {
    Random random(turn);
    const AttentionInputs none = inputs_of_path(turn, turn, &random);
    INFO(describe(none));
    for (double cap : {1e10, 1e30, 1e300}) {
      AttentionInputs in = none;
      in.softcap = cap;
      for_each_isa([&](const Kernels& kernels, const char*) {
        REQUIRE(bits_differ(run_attention(kernels, in), run_attention(kernels, none)) == "");
      });
    }
    // All scores are as good as 0, so results are means.
    AttentionInputs tiny = none;
    tiny.scale = 0;
    const AttentionTruth mean(tiny);
    tiny.scale = none.scale;
    for (double cap : {1e-30, 1e-300}) {
      tiny.softcap = cap;
      for_each_isa([&](const Kernels& kernels, const char*) {
        REQUIRE(mean.differs(run_attention(kernels, tiny)) == "");
      });
    }
  }
}

TEST_CASE("slopes of 0 and sinks of -inf have the bits of none") {
  for (int64_t turn = 0; turn < 54; ++turn) {
    Random random(turn);
    AttentionInputs none = inputs_of_path(turn, turn, &random);
    set_masks(&none.masks, turn * 11 % kMaskCount, &random);
    if (turn % 3 == 0) none.softcap = 2;
    AttentionInputs in = none;
    in.alibi_slopes = head_numbers(in, turn % 2, 0, 0, &random);
    in.sinks = head_numbers(in, turn % 2, 0, 0, &random);
    in.sinks.for_each([&](auto... at) { in.sinks.set(at..., -kInfinity); });
    INFO(describe(in));
    for_each_isa([&](const Kernels& kernels, const char*) {
      REQUIRE(bits_differ(run_attention(kernels, in), run_attention(kernels, none)) == "");
    });
  }
}

TEST_CASE("a padded row with softcap, slopes and sinks has the bits of the row alone") {
  constexpr int64_t kLength = 300;
  constexpr int64_t kRowLengths[] = {1, 7, 8, 9, 48, 64, 65, 130, 256, 257, 299};
  int64_t turn = 0;
  for (int64_t length : kRowLengths) {
    for (int64_t begin : {int64_t{0}, (kLength - length) / 2, kLength - length}) {
      for (bool step : {false, true}) {
        ++turn;
        Random random(turn);
        AttentionShape shape;
        shape.batch = 2;
        shape.heads = 4;
        shape.kv_heads = 2;
        shape.queries = step ? 1 : kLength;
        shape.keys = kLength;
        shape.dtypes = kDTypePairs[turn % kDTypePairCount];
        AttentionInputs in = make_inputs(shape, &random);
        in.masks.causal = !step && turn % 4 != 0;
        in.masks.window = turn % 5 == 0 ? 20 : 0;
        in.masks.add_key_mask();
        for (int64_t j = 0; j < kLength; ++j) {
          in.masks.key(1, j) = j >= begin && j < begin + length;
          for (Tensor* tensor : {&in.key, &in.value}) {
            if (in.masks.key(1, j) == 0) tensor->set(1, j % 2, j, 3, j % 3 ? kNaN : kInfinity);
          }
        }
        add_parts(kScoreParts[turn % kScorePartsCount], turn % 3, &in, &random);
        // A row of one real query takes the path of steps; a step stands at the last slot.
        if (!step && length == 1) continue;
        if (step && begin + length != kLength) continue;
        const Range keys{begin, begin + length};
        const Range queries = step ? Range{0, 1} : keys;
        const AttentionInputs alone = row_alone(in, 1, queries, keys);
        INFO(describe(in) << ", from " << begin << " to " << begin + length);
        for_each_isa([&](const Kernels& kernels, const char*) {
          const AttentionResult batch = run_attention(kernels, in);
          const AttentionResult row{batch.out.slice(1, queries), batch.logsumexp.slice(1, queries)};
          REQUIRE(bits_differ(run_attention(kernels, alone), row) == "");
        });
      }
    }
  }
}

TEST_CASE("packed sequences with softcap, slopes and sinks have the bits of each alone") {
  const std::vector<Lengths> lengths = {{1, 600}, {1, 30}, {9, 30}, {5, 5}, {60, 100},
                                        {2, 300}, {0, 3},  {40, 9}, {8, 0}};
  for (int64_t turn = 0; turn < 28; ++turn) {
    Random random(turn);
    AttentionShape shape;
    shape.heads = 4;
    shape.kv_heads = 2;
    shape.dtypes = kDTypePairs[turn % kDTypePairCount];
    PackedInputs in = make_packed(shape, lengths, turn % 2, turn % 3 ? 0 : 20, &random);
    // One number for each sequence and head, or for each head.
    AttentionInputs numbers = in.all;
    numbers.query = Tensor(shape.dtypes.query, static_cast<int64_t>(lengths.size()), 4, 0, 0);
    const ScoreParts& parts = kScoreParts[turn % kScorePartsCount];
    add_parts(parts, turn % 4 < 2, &numbers, &random);
    const auto give = [&](AttentionInputs* to, int64_t n) {
      to->softcap = numbers.softcap;
      to->alibi_slopes = numbers.alibi_slopes;
      to->sinks = numbers.sinks;
      for (Tensor* values : {&to->alibi_slopes, &to->sinks}) {
        if (n >= 0 && values->batch() > 1) *values = values->slice(n, {0, 1});
      }
    };
    give(&in.all, -1);
    for (size_t n = 0; n < lengths.size(); ++n) give(&in.rows[n], static_cast<int64_t>(n));
    for_each_isa([&](const Kernels& kernels, const char*) {
      const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3]};
      const AttentionResult packed = run_packed(kernels, in, false, options);
      for (size_t n = 0; n < lengths.size(); ++n) {
        INFO(describe(parts) << ", sequence " << n << ": " << describe(in.rows[n].masks));
        const AttentionResult row = rows_of(packed, in.queries(n));
        REQUIRE(bits_differ(row, run_attention(kernels, in.rows[n])) == "");
        REQUIRE(AttentionTruth(in.rows[n]).differs(row) == "");
      }
    });
  }
}

TEST_CASE("NaN and Inf that a query does not see change no bit, with softcap, slopes and sinks") {
  for (int64_t turn = 0; turn < 21; ++turn) {
    Random random(turn);
    AttentionInputs clean = inputs_of_path(6 + turn % 3, turn, &random);
    clean.masks.causal = true;
    add_parts(kScoreParts[turn % kScorePartsCount], turn % 2, &clean, &random);
    AttentionInputs in = clean;
    const int64_t keys = in.masks.keys;
    const int64_t dirty = keys / 2 + turn;
    in.key.set(1, 1, dirty, 2, kNaN);
    in.value.set(1, 1, dirty, 2, turn % 2 ? kNaN : kInfinity);
    INFO(describe(in) << ", key " << dirty);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult expected = run_attention(kernels, clean);
      const AttentionResult found = run_attention(kernels, in);
      const Range before{0, std::max<int64_t>(0, dirty - (keys - in.masks.queries))};
      const AttentionResult a{expected.out.slice(1, before), expected.logsumexp.slice(1, before)};
      const AttentionResult b{found.out.slice(1, before), found.logsumexp.slice(1, before)};
      REQUIRE(bits_differ(b, a) == "");
    });
  }
}
