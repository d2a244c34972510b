// How the threads of a block take turns: each runs until it waits for others or ends. Who waits for
// threads that never come is found when nobody can go on.
#include "support/cuda_machine.h"

#include <memory>
#include <numeric>

#include "support/cuda_schedule.h"
#include "support/fiber.h"
#include "support/tensors.h"

namespace masked_attn::cuda::emulator {

Place place{0, 0, 0};
SharedMemory shared_memory;

namespace {

using masked_attn_test::Fiber;
using masked_attn_test::Schedule;

// Codes that CUDA has for the same.
constexpr int32_t kInvalidConfiguration = 9;
constexpr int32_t kLaunchFailed = 719;

enum class State { kReady, kAtBarrier, kInExchange, kFinished };

struct Thread {
  State state = State::kFinished;
  const char* call = "";  // what it waits in, and where that is
  Site where;
};

struct Warp {
  int arrived = 0;
  int turn = 0;
  // Two, because a fast lane gives its next value before a slow one has read the last.
  Lane lanes[2][kWarp];
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;  // for the largest block so far
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<int> order;  // in which threads take turns
  size_t turn = 0;
  int at_barrier = 0;
  int finished = 0;
  const std::function<void()>* body = nullptr;
  std::string failure;
  Schedule schedule;
  masked_attn_test::Random random{0};
};
Machine machine;

// `order` becomes a permutation of its numbers.
template <class Number>
void arrange(std::vector<Number>* order) {
  std::iota(order->begin(), order->end(), Number{0});
  if (machine.schedule.order == Schedule::Order::kReverse) {
    std::reverse(order->begin(), order->end());
  } else if (machine.schedule.order == Schedule::Order::kShuffled) {
    for (size_t left = order->size(); left > 1; --left) {
      std::swap((*order)[left - 1], (*order)[machine.random.below(left)]);
    }
  }
}

// The next thread that can go on; -1 if there is none.
int next_ready() {
  for (int rounds = 0; rounds < 2; ++rounds) {
    while (machine.turn < machine.order.size()) {
      const int t = machine.order[machine.turn++];
      if (machine.threads[t].state == State::kReady) return t;
    }
    machine.turn = 0;
    if (machine.schedule.order == Schedule::Order::kShuffled) arrange(&machine.order);
  }
  return -1;
}

void give_turn(int thread) {
  place.thread = thread;
  shared_memory.set_thread(thread);
}

// Called by a thread that waits or has finished; returns when it is its turn again.
void give_way() {
  const int own = place.thread;
  const int next = next_ready();
  if (next < 0) return Fiber::leave();
  give_turn(next);
  if (next != own) Fiber::switch_to(*machine.fibers[next]);
}

void run_threads_forever() {
  for (;;) {
    (*machine.body)();
    machine.threads[place.thread].state = State::kFinished;
    ++machine.finished;
    give_way();
  }
}

const char* file_name(Site where) {
  const char* const slash = std::strrchr(where.file_name(), '/');
  return slash == nullptr ? where.file_name() : slash + 1;
}

bool same_text(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }

// The function's name tells the instances of a template apart.
bool same_site(const Site& a, const Site& b) {
  if (std::memcmp(&a, &b, sizeof(Site)) == 0) return true;
  return a.line() == b.line() && a.column() == b.column() &&
         same_text(a.file_name(), b.file_name()) && same_text(a.function_name(), b.function_name());
}

std::string state_text(int number) {
  const Thread& thread = machine.threads[number];
  std::ostringstream text;
  text << "thread " << number;
  if (thread.state == State::kFinished) {
    text << " has finished";
  } else {
    text << " waits in " << thread.call << " (" << file_name(thread.where) << ":"
         << thread.where.line() << ")";
  }
  return text.str();
}

void note_divergence(const char* what, int a, int b) {
  std::ostringstream text;
  text << what << ": " << state_text(a) << ", " << state_text(b) << " (block " << place.block
       << ")";
  if (machine.failure.empty()) machine.failure = text.str();
}

// Threads [first, first + count) have all arrived: lets them go on, if it was at the same call.
void release(const char* divergence, int first, int count) {
  for (int t = first; t < first + count; ++t) {
    if (same_site(machine.threads[t].where, machine.threads[first].where)) continue;
    note_divergence(divergence, first, t);
    abandon();
  }
  for (int t = first; t < first + count; ++t) machine.threads[t].state = State::kReady;
}

void wait(State state, const char* call, Site where) {
  Thread& thread = machine.threads[place.thread];
  thread.state = state;
  thread.call = call;
  thread.where = where;
}

// Nobody is ready: some wait for others that wait elsewhere or have finished.
void note_deadlock() {
  const auto find = [](int first, int count, auto... states) {
    for (int t = first; t < first + count; ++t) {
      if (((machine.threads[t].state == states) || ...)) return t;
    }
    return -1;
  };
  const int lane = find(0, place.threads, State::kInExchange);
  if (lane < 0) {
    note_divergence("divergent barrier", find(0, place.threads, State::kAtBarrier),
                    find(0, place.threads, State::kFinished));
    return;
  }
  const int other = find(lane / kWarp * kWarp, kWarp, State::kAtBarrier, State::kFinished);
  const bool at_barrier = machine.threads[other].state == State::kAtBarrier;
  note_divergence(at_barrier ? "divergent barrier" : "divergent warp exchange", lane, other);
}

void run_block() {
  machine.at_barrier = 0;
  machine.finished = 0;
  machine.turn = 0;
  for (Thread& thread : machine.threads) thread.state = State::kReady;
  for (Warp& warp : machine.warps) warp.arrived = 0;
  shared_memory.begin_block();
  const int first = next_ready();
  give_turn(first);
  machine.fibers[first]->enter();
  if (machine.failure.empty() && machine.finished < place.threads) note_deadlock();
}

int32_t refuse(const std::string& text) {
  machine.failure = text;
  return kInvalidConfiguration;
}

}  // namespace

void note_failure(const std::string& text, Site where) {
  if (!machine.failure.empty()) return;
  std::ostringstream full;
  full << text << " (thread " << place.thread << " of block " << place.block << ", "
       << file_name(where) << ":" << where.line() << ")";
  machine.failure = full.str();
}

void abandon() {
  Fiber::leave();
  std::abort();
}

void SharedMemory::fail_read(int64_t byte, int bytes, Site where) const {
  for (int64_t i = byte; i < byte + bytes; ++i) {
    if (writers_[i] >= block_) continue;
    fail(where, "uninitialised shared memory: byte ", i, " is read, which the block never wrote");
  }
  int64_t i = byte;
  while (writers_[i] < interval_ || writers_[i] == own_) ++i;
  fail(where, "shared memory race: byte ", i, " is read, which thread ", writers_[i] - interval_,
       " wrote after the last barrier");
}

void SharedMemory::fail_write(int64_t byte, int bytes, Site where) const {
  for (int64_t i = byte; i < byte + bytes; ++i) {
    if (writers_[i] < interval_ || writers_[i] == own_) continue;
    fail(where, "shared memory race: byte ", i, " is written, which thread ",
         writers_[i] - interval_, " wrote after the last barrier");
  }
  int64_t i = byte;
  while (readers_[i] < interval_ || readers_[i] == own_) ++i;
  const int32_t reader = readers_[i] - interval_;
  if (reader == kSeveral) {
    fail(where, "shared memory race: byte ", i,
         " is written, which several threads read after the last barrier");
  }
  fail(where, "shared memory race: byte ", i, " is written, which thread ", reader,
       " read after the last barrier");
}

void wait_for_block(const char* call, Site where) {
  wait(State::kAtBarrier, call, where);
  if (++machine.at_barrier == place.threads) {
    release("divergent barrier", 0, place.threads);
    machine.at_barrier = 0;
    shared_memory.next_interval();
  }
  give_way();
}

const Lane* exchange(const char* call, const Lane& own, Site where) {
  const int first = place.thread / kWarp * kWarp;
  Warp& warp = machine.warps[place.thread / kWarp];
  Lane* const lanes = warp.lanes[warp.turn];
  lanes[place.thread - first] = own;
  wait(State::kInExchange, call, where);
  if (++warp.arrived == kWarp) {
    release("divergent warp exchange", first, kWarp);
    warp.arrived = 0;
    warp.turn = 1 - warp.turn;
  }
  give_way();
  return lanes;
}

int32_t run(int64_t blocks, int threads, int64_t shared_bytes,
            const std::function<void()>& thread) {
  machine.failure.clear();
  if (blocks == 0) return 0;
  if (blocks < 0 || blocks > kMaxBlocks) return refuse("bad number of blocks");
  if (threads <= 0 || threads > kMaxThreads || threads % kWarp != 0) {
    return refuse("bad number of threads: " + std::to_string(threads));
  }
  if (shared_bytes < 0 || shared_bytes > kMaxSharedBytes) {
    return refuse("bad size of shared memory: " + std::to_string(shared_bytes) +
                  " bytes, at most " + std::to_string(kMaxSharedBytes));
  }
  while (machine.fibers.size() < static_cast<size_t>(threads)) {
    machine.fibers.push_back(std::make_unique<Fiber>(run_threads_forever));
  }
  machine.threads.assign(threads, {});
  machine.warps.resize(threads / kWarp);
  machine.body = &thread;
  machine.random = masked_attn_test::Random(machine.schedule.seed);
  place.threads = threads;
  shared_memory.begin_launch(shared_bytes);
  std::vector<int64_t> block_order(blocks);
  machine.order.resize(threads);
  arrange(&block_order);
  arrange(&machine.order);
  for (const int64_t block : block_order) {
    place.block = block;
    run_block();
    if (machine.failure.empty()) continue;
    for (const auto& fiber : machine.fibers) fiber->restart();
    return kLaunchFailed;
  }
  return 0;
}

}  // namespace masked_attn::cuda::emulator

namespace masked_attn_test {

void set_schedule(const Schedule& schedule) {
  masked_attn::cuda::emulator::machine.schedule = schedule;
}

const std::string& last_failure() { return masked_attn::cuda::emulator::machine.failure; }

}  // namespace masked_attn_test
