// What tests say to the emulator and ask it: in which order threads and blocks run, and what was
// wrong with the last launch.
#pragma once

#include <cstdint>
#include <string>

#include "support/catch.h"

namespace masked_attn_test {

struct Schedule {
  enum class Order { kInOrder, kReverse, kShuffled };

  const char* name = "in order";
  Order order = Order::kInOrder;
  uint64_t seed = 0;  // of the shuffled order, which is another one after each barrier
};

// Of the blocks of a launch, and of the threads of a block between two points where they wait.
void set_schedule(const Schedule& schedule);

// Empty if nothing was wrong.
const std::string& last_failure();

constexpr Schedule kSchedules[] = {{},
                                   {"in reverse", Schedule::Order::kReverse, 0},
                                   {"shuffled, seed 1", Schedule::Order::kShuffled, 1},
                                   {"shuffled, seed 2", Schedule::Order::kShuffled, 2}};

// Calls body() once for each schedule.
template <class Body>
void for_each_schedule(const Body& body) {
  struct BackInOrder {
    ~BackInOrder() { set_schedule({}); }
  } const back_in_order;
  for (const Schedule& schedule : kSchedules) {
    INFO("threads " << schedule.name);
    set_schedule(schedule);
    body();
  }
}

}  // namespace masked_attn_test
