// The plan of attention: every (query, visible key range) is done exactly once, the costliest items
// come first, and the numbers for reports agree with counting.
#include <map>
#include <vector>

#include "kernels/cpu/plan.h"
#include "support/cases.h"
#include "support/catch.h"
#include "support/run.h"

using namespace masked_attn_test;
using masked_attn::kFewKeys;
using masked_attn::kKeyChunk;
using masked_attn::kKeyTile;
using masked_attn::cpu::Item;
using masked_attn::cpu::kQueryTile;
using masked_attn::cpu::Path;

namespace {

Masks sized(int64_t batch, int64_t queries, int64_t keys) {
  Masks m;
  m.batch = batch;
  m.queries = queries;
  m.keys = keys;
  return m;
}

masked_attn::AttentionParams params_for(const Masks& m, int64_t head_dim) {
  masked_attn::AttentionParams p{};
  p.batch = m.batch;
  p.heads = 2;
  p.kv_heads = 2;
  p.head_dim = head_dim;
  p.value_dim = head_dim;
  p.mask = m.params();
  return p;
}

std::vector<Item> plan_of(const masked_attn::AttentionParams& p) {
  const int64_t capacity = masked_attn::cpu::shared_layout(p).item_capacity;
  // More room than promised, so that a plan that is too long is a failure and not a crash.
  std::vector<Item> items(capacity + 1000);
  const int64_t count = masked_attn::cpu::plan_attention(p, items.data());
  REQUIRE(count <= capacity);
  items.resize(count);
  return items;
}

// From the first to the last key that the key mask shows; {0, 0} when there is none.
Range naive_row_range(const Masks& m, int64_t b) {
  Range range{0, 0};
  for (int64_t j = m.keys - 1; j >= 0; --j) {
    if (m.has_key_mask && m.key(b, j) == 0) continue;
    if (range.end == 0) range.end = j + 1;
    range.begin = j;
  }
  return range;
}

bool sees_any(const Masks& m, int64_t i, Range keys) {
  for (int64_t j = keys.begin; j < keys.end; ++j) {
    if (position_visible(m, i, j)) return true;
  }
  return false;
}

Path expected_path(const Masks& m, Range keys) {
  if (keys.begin == keys.end) return Path::kZero;
  const bool few = m.queries == 1 || keys.end - keys.begin <= kFewKeys;
  return few ? Path::kFew : Path::kTiled;
}

// The keys of all items of one query, in the order of their chunks, must be the row's range.
bool covers(const std::vector<const Item*>& items, Range keys) {
  const bool few = items[0]->path == Path::kFew;
  const int64_t chunks = few ? (keys.end - keys.begin + kKeyChunk - 1) / kKeyChunk : 1;
  int64_t next = keys.begin;
  for (const Item* item : items) {
    if (item->chunks != chunks || item->keys.begin != next || item->keys.end <= next) return false;
    if (few && item->keys.begin != keys.begin + item->chunk * kKeyChunk) return false;
    next = item->keys.end;
  }
  return next == keys.end;
}

void check_plan(const Masks& m, int64_t head_dim) {
  const masked_attn::AttentionParams p = params_for(m, head_dim);
  const std::vector<Item> items = plan_of(p);
  std::map<std::pair<int64_t, int64_t>, std::map<int64_t, const Item*>> done;
  int64_t last_cost = std::numeric_limits<int64_t>::max();
  for (const Item& item : items) {
    REQUIRE(item.cost <= last_cost);
    last_cost = item.cost;
    REQUIRE(item.queries.begin < item.queries.end);
    REQUIRE(item.queries.end <= m.queries);
    const int64_t most = item.path == Path::kFew
                             ? masked_attn::cpu::kFewBlock
                             : masked_attn::cpu::max_block_queries(head_dim, head_dim);
    if (item.path != Path::kZero) REQUIRE(item.queries.end - item.queries.begin <= most);
    for (int64_t i = item.queries.begin; i < item.queries.end; ++i) {
      const bool fresh = done[{item.row, i}].emplace(item.chunk, &item).second;
      if (!fresh) FAIL("query " << i << " of row " << item.row << " is done twice");
    }
  }
  for (int64_t b = 0; b < m.batch; ++b) {
    const Range keys = naive_row_range(m, b);
    for (int64_t i = 0; i < m.queries; ++i) {
      std::vector<const Item*> parts;
      for (const auto& [chunk, item] : done[{b, i}]) parts.push_back(item);
      const Path path = sees_any(m, i, keys) ? expected_path(m, keys) : Path::kZero;
      bool right = !parts.empty();
      for (const Item* part : parts) right = right && part->path == path;
      if (path == Path::kZero) right = right && parts.size() == 1;
      if (path == Path::kTiled) right = right && parts.size() == 1 && covers(parts, keys);
      if (path == Path::kFew) right = right && covers(parts, keys);
      if (!right) FAIL("query " << i << " of row " << b << " is planned wrongly");
    }
  }
}

struct Tiles {
  int64_t visited = 0;
  int64_t skipped = 0;
};

// Counts tiles from the row's first visible key and the first query that sees any.
Tiles naive_tiles(const Masks& m, int64_t b) {
  const Range keys = naive_row_range(m, b);
  int64_t first = 0;
  while (first < m.queries && !sees_any(m, first, keys)) ++first;
  Tiles tiles;
  for (int64_t i = first; i < m.queries; i += kQueryTile) {
    for (int64_t j = keys.begin; j < keys.end; j += kKeyTile) {
      bool any = false;
      for (int64_t query = i; query < std::min(i + kQueryTile, m.queries); ++query) {
        for (int64_t key = j; key < std::min(j + kKeyTile, keys.end); ++key) {
          any = any || visible(m, b, 0, query, key);
        }
      }
      tiles.visited += any;
    }
  }
  const int64_t rows = (m.queries + kQueryTile - 1) / kQueryTile;
  const int64_t columns = (m.keys + kKeyTile - 1) / kKeyTile;
  tiles.skipped = rows * columns - tiles.visited;
  return tiles;
}

// Every size of kLengths with a key mask and a position that change from case to case.
template <class Body>
void for_each_mask(const Body& body) {
  int64_t turn = 0;
  for (int64_t queries : kLengths) {
    for (int64_t keys : kLengths) {
      ++turn;
      Random random(turn);
      Masks m = sized(2, queries, keys);
      const PositionForm& position = kPositionForms[turn % kPositionFormCount];
      m.causal = position.causal;
      m.window = position.window;
      set_key_mask(&m, static_cast<KeyForm>(turn % kKeyForms), &random);
      INFO(describe(m));
      body(m, turn);
    }
  }
}

}  // namespace

TEST_CASE("the plan does every query of every row exactly once, costliest first") {
  for_each_mask(
      [](const Masks& m, int64_t turn) { check_plan(m, kHeadSizes[turn % kHeadSizeCount]); });
}

TEST_CASE("the plan of batches with many different rows") {
  for (int64_t queries : {1, 2, 8, 9, 600, 1500}) {
    for (bool causal : {false, true}) {
      Random random(queries);
      Masks m = sized(30, queries, 1500);
      m.causal = causal;
      set_key_mask(&m, KeyForm::kBoth, &random);
      for (int64_t j = 0; j < 1500; ++j) {
        m.key(3, j) = j >= 700 && j < 708;
        m.key(4, j) = j >= 700 && j < 709;
        m.key(5, j) = 0;
      }
      INFO("queries " << queries << ", causal " << causal);
      check_plan(m, 64);
    }
  }
}

TEST_CASE("blocks of queries are whole tiles") {
  for (int64_t head_dim : {0, 1, 64, 256, 1000, 100000}) {
    const int64_t block = masked_attn::cpu::max_block_queries(head_dim, head_dim);
    REQUIRE(block >= kQueryTile);
    REQUIRE(block % kQueryTile == 0);
  }
}

TEST_CASE("plan_rows gives the range of visible keys of each row") {
  for_each_mask([](const Masks& m, int64_t) {
    Range rows[2];
    masked_attn::cpu::plan_rows(m.params(), 2, rows);
    for (int64_t b = 0; b < 2; ++b) {
      const Range expected = naive_row_range(m, b);
      REQUIRE(rows[b].end - rows[b].begin == expected.end - expected.begin);
      if (expected.begin < expected.end) REQUIRE(rows[b].begin == expected.begin);
    }
  });
}

TEST_CASE("visible_plan agrees with counting tiles") {
  for_each_mask([](const Masks& m, int64_t) {
    if (m.queries * m.keys > 70000) return;
    for (int64_t b = 0; b < 2; ++b) {
      const masked_attn::cpu::VisiblePlan plan = masked_attn::cpu::visible_plan(m.params(), b);
      const Range keys = naive_row_range(m, b);
      const Tiles tiles = naive_tiles(m, b);
      REQUIRE(plan.keys.end - plan.keys.begin == keys.end - keys.begin);
      REQUIRE(plan.path == expected_path(m, keys));
      REQUIRE(plan.tiles_visited == tiles.visited);
      REQUIRE(plan.tiles_skipped == tiles.skipped);
    }
  });
}
