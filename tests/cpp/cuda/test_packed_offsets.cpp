// Offsets that only the device knows may be wrong, and nobody can be told: they are moved into the
// tensors, and sequences that are right keep their bits.
#include "support/catch.h"
#include "support/compare.h"
#include "support/packed.h"

using namespace masked_attn_test;

namespace {

PackedInputs three_sequences() {
  Random random(5);
  AttentionShape shape;
  shape.heads = 2;
  shape.kv_heads = 1;
  return make_packed(shape, {{40, 40}, {3, 300}, {20, 50}}, true, 0, &random);
}

}  // namespace

TEST_CASE("wrong packed offsets on the device read and write nothing outside") {
  const PackedInputs right = three_sequences();
  const AttentionResult expected = run_packed(emulated_cuda_kernels(), right, false);
  constexpr int64_t kFar = int64_t{1} << 62;
  const std::vector<int64_t> wrong_queries[] = {
      {-7, 40, 43, kFar}, {0, 40, 43, 64}, {-kFar, 40, 43, 63}};
  const std::vector<int64_t> wrong_keys[] = {
      {-1, 40, 340, 391}, {-kFar, 40, 340, kFar}, {0, 40, 340, 1000}};
  for (int i = 0; i < 3; ++i) {
    PackedInputs in = right;
    in.query_offsets = wrong_queries[i];
    in.key_offsets = wrong_keys[i];
    const AttentionResult found = run_packed(emulated_cuda_kernels(), in, false);
    REQUIRE(bits_differ(found, expected) == "");
  }
}

TEST_CASE("packed offsets that decrease, and lengths above the longest, stay inside") {
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{63, 40, 20, 0}, {5, 60, 10, 63}, {0, 63, 63, 63}, {70, 80, 90, 100}}) {
    PackedInputs in = three_sequences();
    in.query_offsets = offsets;
    in.key_offsets = offsets;
    in.max_keys = 30;  // shorter than some
    run_packed(emulated_cuda_kernels(), in, false);
    run_packed(emulated_cuda_kernels(), in, true);
  }
}
