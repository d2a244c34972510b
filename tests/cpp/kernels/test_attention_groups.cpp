// One query for each head of a group, which are multiplied together: against the naive loops, and
// bit for bit against each head alone. Masks differ from head to head, and have holes.
#include "support/cases.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace masked_attn_test;

namespace {

constexpr int64_t kGroups[] = {1, 2, 3, 4, 5, 7, 8, 12};
constexpr int64_t kKeyCounts[] = {1, 5, 63, 70, 131, 300, 600};

AttentionShape group_shape(int64_t group, int64_t keys, int64_t turn) {
  AttentionShape shape;
  shape.batch = 2;
  shape.kv_heads = 2;
  shape.heads = 2 * group;
  shape.keys = keys;
  shape.head_dim = kHeadSizes[turn % kHeadSizeCount] + turn % 3;
  shape.value_dim = turn % 4 ? shape.head_dim : kHeadSizes[turn % 7] + 5;
  shape.dtypes = kDTypePairs[turn % kDTypePairCount];
  shape.layout = kLayouts[turn % 3];
  return shape;
}

// Runs of `alike` heads see the same keys, with holes; some see few, some only late ones.
void set_head_masks(AttentionInputs* in, DType dtype, int64_t alike, Random* random) {
  AttnMask& mask = in->masks.add_attn(dtype, {true, true, false, true});
  for (int64_t b = 0; b < in->masks.batch; ++b) {
    for (int64_t h = 0; h < in->masks.heads; ++h) {
      const int64_t run = h / alike;
      const bool first = h % alike == 0;
      for (int64_t j = 0; j < in->masks.keys; ++j) {
        const bool early = run % 3 == 1 && j < in->masks.keys / 2;
        const bool seen = !early && random->chance(run % 2 ? 0.1 : 0.9);
        const double shown = dtype == DType::kBool ? 1 : random->uniform(-1, 1);
        const double hidden = dtype == DType::kBool ? 0 : -kInfinity;
        mask.set(b, h, 0, j, first ? (seen ? shown : hidden) : mask.get(b, h - 1, 0, j));
      }
    }
  }
}

AttentionInputs group_inputs(int64_t group, int64_t keys, int64_t turn) {
  Random random(turn);
  AttentionInputs in = make_inputs(group_shape(group, keys, turn), &random);
  const int64_t alike = 1 + turn % 5;
  if (turn % 4 == 1) set_head_masks(&in, DType::kBool, alike, &random);
  if (turn % 4 == 2) set_head_masks(&in, DType::kFloat32, alike, &random);
  if (turn % 3 == 1) set_key_mask(&in.masks, static_cast<KeyForm>(turn % kKeyForms), &random);
  return in;
}

Tensor head_of(const Tensor& tensor, int64_t h) {
  Tensor out(tensor.dtype(), tensor.batch(), 1, tensor.rows(), tensor.columns());
  out.for_each([&](auto b, auto, auto i, auto d) { out.set(b, 0, i, d, tensor.get(b, h, i, d)); });
  return out;
}

AttentionInputs head_alone(const AttentionInputs& in, int64_t h) {
  AttentionInputs out = in;
  out.query = head_of(in.query, h);
  out.key = head_of(in.key, h / (in.query.heads() / in.key.heads()));
  out.value = head_of(in.value, h / (in.query.heads() / in.key.heads()));
  out.masks.heads = 1;
  if (in.masks.attn.empty()) return out;
  AttnMask& mask = out.masks.add_attn(in.masks.attn[0].dtype, {true, true, true, true});
  for (int64_t b = 0; b < in.masks.batch; ++b) {
    for (int64_t j = 0; j < in.masks.keys; ++j) {
      mask.set(b, 0, 0, j, in.masks.attn[0].get(b, h, 0, j));
    }
  }
  return out;
}

AttentionResult head_of(const AttentionResult& result, int64_t h) {
  return {head_of(result.out, h), head_of(result.logsumexp, h)};
}

}  // namespace

TEST_CASE("groups of heads with masks of their own, holes, and every dtype and head size") {
  int64_t turn = 0;
  for (int64_t group : kGroups) {
    for (int64_t keys : kKeyCounts) {
      for (int64_t again = 0; again < 4; ++again) {
        const AttentionInputs in = group_inputs(group, keys, ++turn);
        INFO(describe(in) << ", turn " << turn);
        const AttentionTruth truth(in);
        for_each_isa([&](const Kernels& kernels, const char*) {
          const RunOptions options{kAllWorkers[turn % kWorkersCount], kLayouts[turn % 3]};
          REQUIRE(truth.differs(run_attention(kernels, in, options)) == "");
        });
      }
    }
  }
}

TEST_CASE("a head of a group has the bits of the head alone") {
  int64_t turn = 0;
  for (int64_t group : kGroups) {
    for (int64_t keys : kKeyCounts) {
      const AttentionInputs in = group_inputs(group, keys, ++turn);
      INFO(describe(in) << ", turn " << turn);
      for_each_isa([&](const Kernels& kernels, const char*) {
        const AttentionResult all = run_attention(kernels, in, {kAllWorkers[turn % kWorkersCount]});
        for (int64_t h = 0; h < in.query.heads(); ++h) {
          INFO("head " << h);
          const AttentionResult alone = run_attention(kernels, head_alone(in, h));
          REQUIRE(bits_differ(head_of(all, h), alone) == "");
        }
      });
    }
  }
}

TEST_CASE("garbage that some heads of a group see changes no bit of the others") {
  for (int64_t turn = 0; turn < 24; ++turn) {
    Random random(turn);
    const int64_t group = kGroups[1 + turn % 7];
    AttentionInputs clean = make_inputs(group_shape(group, 150, turn), &random);
    set_head_masks(&clean, DType::kBool, 1 + turn % 2, &random);
    // Key 100 is seen by head 0 alone.
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t h = 0; h < 2 * group; ++h) clean.masks.attn[0].set(b, h, 0, 100, h == 0);
    }
    AttentionInputs dirty = clean;
    for (int64_t d = 0; d < clean.key.columns(); ++d) dirty.key.set(0, 0, 100, d, kNaN);
    for (int64_t d = 0; d < clean.value.columns(); ++d) dirty.value.set(0, 0, 100, d, kInfinity);
    INFO(describe(clean) << ", turn " << turn);
    for_each_isa([&](const Kernels& kernels, const char*) {
      const AttentionResult expected = run_attention(kernels, clean);
      const AttentionResult found = run_attention(kernels, dirty);
      REQUIRE(std::isnan(found.out.get(0, 0, 0, 0)));
      for (int64_t h = 1; h < 2 * group; ++h) {
        REQUIRE(bits_differ(head_of(found, h), head_of(expected, h)) == "");
      }
    });
  }
}

TEST_CASE("one head of a group whose values leave the range of numbers is mended alone") {
  // All values are 3e38: a sum of weights above 1 overflows. The sharp heads see one key each.
  AttentionShape shape;
  shape.heads = 8;
  shape.keys = 300;
  shape.head_dim = shape.value_dim = 32;
  Random random(1);
  AttentionInputs in = make_inputs(shape, &random);
  in.value.for_each([&](auto b, auto h, auto j, auto d) { in.value.set(b, h, j, d, 3e38); });
  AttnMask& mask = in.masks.add_attn(DType::kBool, {false, true, false, true});
  for (int64_t h = 0; h < 8; ++h) {
    for (int64_t j = 0; j < 300; ++j) mask.set(0, h, 0, j, h % 3 == 0 || j == 10 * h);
  }
  const AttentionTruth truth(in);
  for_each_isa([&](const Kernels& kernels, const char*) {
    const AttentionResult all = run_attention(kernels, in);
    REQUIRE(truth.differs(all) == "");
    for (int64_t h = 0; h < 8; ++h) {
      REQUIRE(bits_differ(head_of(all, h), run_attention(kernels, head_alone(in, h))) == "");
    }
  });
}
