// The plan of packed sequences: every query once, within the room that was promised, and the slots
// of chunks never shared.
#include <map>
#include <set>
#include <vector>

#include "kernels/cpu/plan.h"
#include "kernels/rows.h"
#include "support/catch.h"
#include "support/packed.h"

using namespace masked_attn_test;
using masked_attn::cpu::Item;
using masked_attn::cpu::Path;

namespace {

std::vector<Lengths> draw_lengths(bool equal, Random* random) {
  constexpr int64_t kMost[] = {3, 9, 100, 700};
  std::vector<Lengths> lengths(random->below(30));
  for (Lengths& length : lengths) {
    const int64_t most = kMost[random->below(4)];
    length.queries = random->below(most);
    length.keys = equal ? length.queries : random->below(kMost[random->below(4)] * 2);
  }
  return lengths;
}

void check_plan(const PackedInputs& in, bool same) {
  const masked_attn::AttentionParams p = packed_params(in, same);
  const int64_t capacity = masked_attn::cpu::shared_layout(p).item_capacity;
  // More room than promised, so that a plan that is too long is a failure and not a crash.
  std::vector<Item> items(capacity + 10000);
  const int64_t count = masked_attn::cpu::plan_attention(p, items.data());
  REQUIRE(count <= capacity);
  std::map<int64_t, int64_t> done;  // keys that each query is given
  for (int64_t n = 0; n < count; ++n) {
    const Item& item = items[n];
    const Range queries = in.queries(item.row);
    const Range keys = in.keys(item.row);
    REQUIRE(item.queries.begin >= queries.begin);
    REQUIRE(item.queries.end <= queries.end);
    if (item.path != Path::kZero) {
      REQUIRE(item.keys.begin >= keys.begin);
      REQUIRE(item.keys.end <= keys.end);
    }
    for (int64_t i = item.queries.begin; i < item.queries.end; ++i) {
      done[i] += item.path == Path::kZero ? keys.end - keys.begin : item.keys.end - item.keys.begin;
    }
  }
  REQUIRE(done.size() == static_cast<size_t>(in.query_offsets.back()));
  for (size_t row = 0; row < in.rows.size(); ++row) {
    const Range keys = in.keys(row);
    for (int64_t i = in.queries(row).begin; i < in.queries(row).end; ++i) {
      REQUIRE(done[i] == keys.end - keys.begin);
    }
  }
}

void check_slots(const PackedInputs& in) {
  const masked_attn::AttentionParams p = packed_params(in, false);
  std::set<int64_t> taken;
  for (size_t row = 0; row < in.rows.size(); ++row) {
    const int64_t keys = in.keys(row).end - in.keys(row).begin;
    for (int64_t chunk = 0; chunk * masked_attn::kKeyChunk < keys; ++chunk) {
      const int64_t slot = masked_attn::chunk_slot(p.mask, row, chunk);
      REQUIRE(slot >= 0);
      REQUIRE(slot < masked_attn::chunk_slots(p.mask, p.batch));
      REQUIRE(taken.insert(slot).second);
    }
  }
}

}  // namespace

TEST_CASE("packed: the plan does every query once, and chunks have slots of their own") {
  for (int64_t turn = 0; turn < 200; ++turn) {
    Random random(turn);
    const bool equal = turn % 3 == 0;
    AttentionShape shape;
    shape.head_dim = 1;
    shape.value_dim = 1;
    const std::vector<Lengths> lengths = draw_lengths(equal, &random);
    const PackedInputs in = make_packed(shape, lengths, turn % 2, turn % 5 ? 0 : 40, &random);
    INFO("turn " << turn);
    check_plan(in, equal);
    check_slots(in);
  }
}

TEST_CASE("packed: offsets outside of the tensors are moved into them") {
  const int64_t offsets[] = {-5, 4, 2, 9, 100, int64_t{1} << 62, -(int64_t{1} << 62)};
  const Range expected[] = {{0, 4}, {4, 4}, {2, 9}, {9, 10}, {10, 10}, {10, 10}};
  for (int64_t row = 0; row < 6; ++row) {
    const Range found = masked_attn::sequence_at(offsets, row, 10, 50);
    REQUIRE(found.begin == expected[row].begin);
    REQUIRE(found.end == expected[row].end);
  }
  REQUIRE(masked_attn::sequence_at(offsets, 2, 10, 3).end == 5);  // no longer than the longest
}
