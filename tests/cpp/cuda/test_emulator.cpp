// The emulator runs kernels as a GPU would: places, shared memory, exchanges of a warp, launches.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cuda/device.h"
#include "support/catch.h"
#include "support/cuda_schedule.h"

using namespace masked_attn_test;
using namespace masked_attn::cuda;

namespace {

struct PlaceParams {
  int64_t* visits;  // [blocks, threads]
  bool* right;      // [blocks, threads]
  int threads;
};

MASKED_ATTN_KERNEL visit(PlaceParams p) {
  const int64_t at = block_index() * p.threads + thread_index();
  ++p.visits[at];
  p.right[at] = block_threads() == p.threads &&
                thread_index() == warp_index() * kWarp + lane_index() && lane_index() < kWarp;
}

struct SumParams {
  const float* in;
  float* out;  // one for each block
  int64_t count;
};

// Each thread adds some numbers of the block's share; then the block adds in halves.
MASKED_ATTN_KERNEL sum_in_halves(SumParams p) {
  const Shared<float> sums(0, block_threads());
  const float* const in = p.in + block_index() * p.count;
  float sum = 0;
  for (int64_t i = thread_index(); i < p.count; i += block_threads()) sum += in[i];
  sums.set(thread_index(), sum);
  block_barrier();
  for (int half = block_threads() / 2; half > 0; half /= 2) {
    if (thread_index() < half) {
      sums.set(thread_index(), sums.get(thread_index()) + sums.get(thread_index() + half));
    }
    block_barrier();
  }
  if (thread_index() == 0) p.out[block_index()] = sums.get(0);
}

struct WarpParams {
  double* out;     // one for each thread
  uint32_t* bits;  // one for each thread
};

struct Pair {
  double first;
  int64_t second;
};

// Reductions as kernels write them: many exchanges one after the other, at the same line.
template <class T>
MASKED_ATTN_KERNEL sum_of_warp(WarpParams p) {
  T sum = static_cast<T>(thread_index());
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  p.out[thread_index()] = sum;
}

// The value of lane 5, then of the next lane; bits of lanes that are multiples of 3.
MASKED_ATTN_KERNEL exchange_in_warp(WarpParams p) {
  const Pair mine{static_cast<double>(thread_index()), -thread_index()};
  const Pair fifth = shuffle(mine, 5);
  const Pair next = shuffle(mine, (lane_index() + 1) % kWarp);
  p.out[thread_index()] =
      fifth.first * 1000 + next.first + (fifth.second + fifth.first) + (next.second + next.first);
  p.bits[thread_index()] = ballot(lane_index() % 3 == 0);
}

// The last warp is in its third exchange before the first one is in its second, or the other way.
MASKED_ATTN_KERNEL barriers_between_exchanges(WarpParams p) {
  const Shared<double> sums(16, block_threads() / kWarp);
  double value = thread_index();
  for (int round = 0; round < 3; ++round) {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    if (lane_index() == 0) sums.set(warp_index(), value);
    block_barrier();
    value = sums.get((warp_index() + 1) % (block_threads() / kWarp));
    block_barrier();
  }
  p.out[thread_index()] = value;
}

struct OrderParams {
  std::vector<int64_t>* order;
};

MASKED_ATTN_KERNEL note_order(OrderParams p) {
  p.order->push_back(block_index() * block_threads() + thread_index());
  block_barrier();
}

std::vector<int64_t> order_of(const Schedule& schedule) {
  std::vector<int64_t> order;
  set_schedule(schedule);
  const Status status = launch(note_order, 3, 64, 0, nullptr, OrderParams{&order});
  set_schedule({});
  INFO(last_failure());
  REQUIRE(status == 0);
  return order;
}

}  // namespace

TEST_CASE("every thread of every block runs once and knows its place") {
  for_each_schedule([] {
    for (const int threads : {32, 96, 256, 1024}) {
      constexpr int64_t kBlocks = 5;
      std::vector<int64_t> visits(kBlocks * threads, 0);
      std::vector<uint8_t> right(kBlocks * threads, 0);
      const PlaceParams params{visits.data(), reinterpret_cast<bool*>(right.data()), threads};
      REQUIRE(launch(visit, kBlocks, threads, 0, nullptr, params) == 0);
      REQUIRE(visits == std::vector<int64_t>(kBlocks * threads, 1));
      REQUIRE(right == std::vector<uint8_t>(kBlocks * threads, 1));
    }
  });
}

TEST_CASE("blocks add numbers through shared memory") {
  constexpr int64_t kBlocks = 7;
  constexpr int64_t kCount = 300;
  std::vector<float> in(kBlocks * kCount);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i % 101);
  std::vector<float> truth(kBlocks, 0.0f);
  for (size_t i = 0; i < in.size(); ++i) truth[i / kCount] += in[i];
  for_each_schedule([&] {
    for (const int threads : {32, 64, 128, 256}) {
      std::vector<float> out(kBlocks, -1.0f);
      const SumParams params{in.data(), out.data(), kCount};
      const Status status =
          launch(sum_in_halves, kBlocks, threads, threads * sizeof(float), nullptr, params);
      INFO(threads << " threads: " << last_failure());
      REQUIRE(status == 0);
      REQUIRE(out == truth);
    }
  });
}

TEST_CASE("warps reduce by exchanges") {
  for_each_schedule([] {
    std::vector<double> out(96);
    const WarpParams params{out.data(), nullptr};
    void (*const kernels[])(WarpParams) = {sum_of_warp<int64_t>, sum_of_warp<float>,
                                           sum_of_warp<double>};
    for (void (*kernel)(WarpParams) : kernels) {
      REQUIRE(launch(kernel, 1, 96, 0, nullptr, params) == 0);
      for (int t = 0; t < 96; ++t) REQUIRE(out[t] == 496 + t / kWarp * 1024);
    }
  });
}

TEST_CASE("lanes give each other values of up to 16 bytes, and votes") {
  for_each_schedule([] {
    std::vector<double> out(64);
    std::vector<uint32_t> bits(64);
    REQUIRE(launch(exchange_in_warp, 1, 64, 0, nullptr, {out.data(), bits.data()}) == 0);
    for (int t = 0; t < 64; ++t) {
      const int first = t / kWarp * kWarp;
      REQUIRE(out[t] == (first + 5) * 1000 + first + (t + 1) % kWarp);
      REQUIRE(bits[t] == 0x49249249u);
    }
  });
}

TEST_CASE("barriers and exchanges alternate") {
  for_each_schedule([] {
    std::vector<double> out(128);
    const WarpParams params{out.data(), nullptr};
    const Status status = launch(barriers_between_exchanges, 2, 128, 64, nullptr, params);
    INFO(last_failure());
    REQUIRE(status == 0);
    // Each round adds 32 equal values, and hands the sum to the warp before.
    for (int t = 0; t < 128; ++t) {
      const int origin = (t / kWarp + 3) % 4;
      REQUIRE(out[t] == (496.0 + origin * 1024) * kWarp * kWarp);
    }
  });
}

TEST_CASE("schedules change the order and nothing else") {
  std::vector<int64_t> all(3 * 64);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  REQUIRE(order_of(kSchedules[0]) == all);
  REQUIRE(order_of(kSchedules[1]) == std::vector<int64_t>(all.rbegin(), all.rend()));
  const std::vector<int64_t> first = order_of(kSchedules[2]);
  const std::vector<int64_t> second = order_of(kSchedules[3]);
  REQUIRE(first != second);
  REQUIRE(first == order_of(kSchedules[2]));
  for (std::vector<int64_t> order : {first, second}) {
    REQUIRE(order != all);
    std::sort(order.begin(), order.end());
    REQUIRE(order == all);
  }
}

TEST_CASE("no blocks: no launch") {
  std::vector<int64_t> order;
  REQUIRE(launch(note_order, 0, 64, 0, nullptr, OrderParams{&order}) == 0);
  REQUIRE(order.empty());
}

TEST_CASE("launches that no GPU takes are refused") {
  std::vector<int64_t> order;
  const auto refused = [&](int64_t blocks, int threads, int64_t shared_bytes) {
    order.clear();
    const Status status =
        launch(note_order, blocks, threads, shared_bytes, nullptr, OrderParams{&order});
    REQUIRE((status == 0) == last_failure().empty());
    REQUIRE((status == 0) == !order.empty());
    return status != 0;
  };
  REQUIRE(refused(-1, 64, 0));
  REQUIRE(refused(int64_t{1} << 31, 64, 0));
  REQUIRE(refused(1, 0, 0));
  REQUIRE(refused(1, 33, 0));
  REQUIRE(refused(1, 1056, 0));
  REQUIRE_FALSE(refused(1, 1024, 0));
  REQUIRE(refused(1, 64, -1));
  REQUIRE(refused(1, 64, 99 * 1024 + 1));
  REQUIRE_FALSE(refused(1, 64, 99 * 1024));
}
