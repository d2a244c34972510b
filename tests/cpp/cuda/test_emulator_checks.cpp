// The mistakes that the emulator finds. Each kernel here is right, or wrong in one point: the wrong
// one must be found, in every order of threads, and the right one must pass before and after.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "support/asan.h"
#include "support/catch.h"
#include "support/cuda_schedule.h"

using namespace masked_attn_test;
using namespace masked_attn::cuda;

namespace {

constexpr int kThreads = 64;
constexpr int64_t kSharedBytes = 1024;

// What an array holds once every thread has set its own element.
Shared<float> filled_array() {
  const Shared<float> array(0, kThreads);
  array.set(thread_index(), 1.0f);
  block_barrier();
  return array;
}

struct Control {
  bool wrong;
  float* sink;  // [kThreads]
};

// Whether exactly the wrong kernel fails, with a text that begins with `failure`.
void require_found(const char* failure, void (*kernel)(Control)) {
  for_each_schedule([&] {
    std::vector<float> sink(kThreads);
    for (const bool wrong : {false, true, false}) {
      const Control control{wrong, sink.data()};
      const Status status = launch(kernel, 3, kThreads, kSharedBytes, nullptr, control);
      INFO((wrong ? "wrong: " : "right: ") << last_failure());
      REQUIRE((status != 0) == wrong);
      REQUIRE(last_failure().rfind(wrong ? failure : "", 0) == 0);
      REQUIRE(last_failure().empty() == !wrong);
    }
  });
}

// --- shared memory ---------------------------------------------------------------------------

MASKED_ATTN_KERNEL reads_behind_the_array(Control c) {
  const Shared<float> array = filled_array();
  c.sink[thread_index()] = array.get(thread_index() + (c.wrong ? 1 : 0));
}

MASKED_ATTN_KERNEL writes_before_the_array(Control c) {
  const Shared<float> array(16, kThreads);
  array.set(thread_index() - (c.wrong ? 1 : 0), 1.0f);
}

MASKED_ATTN_KERNEL makes_too_large_an_array(Control c) {
  const Shared<double> array(16, c.wrong ? 127 : 126);
  array.set(thread_index(), 1.0);
}

MASKED_ATTN_KERNEL makes_a_misaligned_array(Control c) {
  const Shared<float> array(c.wrong ? 8 : 16, kThreads);
  array.set(thread_index(), 1.0f);
}

MASKED_ATTN_KERNEL forgets_to_write(Control c) {
  const Shared<float> array(0, kThreads);
  if (!c.wrong || thread_index() != 3) array.set(thread_index(), 1.0f);
  block_barrier();
  c.sink[thread_index()] = array.get((thread_index() + 1) % kThreads);
}

// What a block finds is not what the block before it left.
MASKED_ATTN_KERNEL reads_what_another_block_wrote(Control c) {
  const Shared<float> array(0, kThreads);
  if (!c.wrong || block_index() == 1) array.set(thread_index(), 1.0f);
  block_barrier();
  c.sink[thread_index()] = array.get(thread_index());
}

MASKED_ATTN_KERNEL writes_half_of_a_word(Control c) {
  const Shared<uint16_t> halves(0, 2 * kThreads);
  const Shared<float> words(0, kThreads);
  halves.set(2 * thread_index(), 1);
  if (!c.wrong) halves.set(2 * thread_index() + 1, 1);
  c.sink[thread_index()] = words.get(thread_index());
}

MASKED_ATTN_KERNEL two_write(Control c) {
  const Shared<float> array(0, kThreads);
  array.set(c.wrong ? thread_index() / 2 : thread_index(), static_cast<float>(thread_index()));
}

MASKED_ATTN_KERNEL all_write_the_same(Control c) {
  const Shared<float> array(0, 1);
  if (c.wrong || thread_index() == 0) array.set(0, 1.0f);
}

MASKED_ATTN_KERNEL reads_after_a_write(Control c) {
  const Shared<float> array = filled_array();
  array.set(thread_index(), 2.0f);
  if (!c.wrong) block_barrier();
  c.sink[thread_index()] = array.get((thread_index() + 1) % kThreads);
}

// Here every thread has read what it needs, but may be late: the mistake of a missing second
// barrier.
MASKED_ATTN_KERNEL writes_after_a_read(Control c) {
  const Shared<float> array = filled_array();
  c.sink[thread_index()] = array.get((thread_index() + 1) % kThreads);
  if (!c.wrong) block_barrier();
  array.set(thread_index(), 2.0f);
}

MASKED_ATTN_KERNEL writes_what_all_read(Control c) {
  const Shared<float> array = filled_array();
  c.sink[thread_index()] = array.get(5);
  if (!c.wrong) block_barrier();
  if (thread_index() == 5) array.set(5, 2.0f);
}

MASKED_ATTN_KERNEL trusts_an_exchange_of_the_warp(Control c) {
  const Shared<float> array = filled_array();
  array.set(thread_index(), 2.0f);
  if (!c.wrong) block_barrier();
  ballot(true);
  c.sink[thread_index()] = array.get(thread_index() ^ 1);
}

// Right: bytes that share a word are apart.
MASKED_ATTN_KERNEL writes_neighbouring_bytes(Control c) {
  const Shared<uint8_t> bytes(0, kThreads);
  bytes.set(thread_index(), 7);
  bytes.set((thread_index() + (c.wrong ? 1 : 0)) % kThreads, 7);
  if (!c.wrong) c.sink[thread_index()] = bytes.get(thread_index());
}

// --- barriers --------------------------------------------------------------------------------

MASKED_ATTN_KERNEL one_thread_skips_a_barrier(Control c) {
  if (c.wrong && thread_index() == 17) return;
  block_barrier();
}

MASKED_ATTN_KERNEL one_warp_skips_a_barrier(Control c) {
  if (c.wrong && warp_index() == 1) return;
  block_barrier();
}

MASKED_ATTN_KERNEL one_thread_makes_another_round(Control c) {
  const int rounds = c.wrong && thread_index() == 40 ? 4 : 3;
  for (int i = 0; i < rounds; ++i) block_barrier();
}

MASKED_ATTN_KERNEL two_barriers_meet(Control c) {
  if (c.wrong && thread_index() < 32) {
    block_barrier();
  } else {
    block_barrier();
  }
}

MASKED_ATTN_KERNEL a_warp_is_late_in_an_exchange(Control c) {
  if (c.wrong && lane_index() == 3) {
    block_barrier();
    ballot(true);
    return;
  }
  ballot(true);
  block_barrier();
}

// --- exchanges of a warp -----------------------------------------------------------------------

MASKED_ATTN_KERNEL half_a_warp_votes(Control c) {
  if (!c.wrong || lane_index() < 16) ballot(true);
}

MASKED_ATTN_KERNEL halves_vote_apart(Control c) {
  if (c.wrong && lane_index() < 16) {
    ballot(true);
  } else {
    ballot(true);
  }
}

template <class T>
T sum_with_neighbour(T value) {
  return value + shuffle_xor(value, 1);
}

// The same line of two instances of a template.
MASKED_ATTN_KERNEL lanes_exchange_different_types(Control c) {
  if (c.wrong && lane_index() % 2 == 1) {
    c.sink[thread_index()] = static_cast<float>(sum_with_neighbour(1.0));
  } else {
    c.sink[thread_index()] = sum_with_neighbour(1.0f);
  }
}

MASKED_ATTN_KERNEL asks_for_lane_32(Control c) {
  c.sink[thread_index()] = shuffle(1.0f, c.wrong ? 32 : 31);
}

MASKED_ATTN_KERNEL flips_bit_5_of_the_lane(Control c) {
  c.sink[thread_index()] = shuffle_xor(1.0f, c.wrong ? 32 : 16);
}

}  // namespace

TEST_CASE("arrays and indices outside of shared memory are found") {
  require_found("out of bounds: index 64", reads_behind_the_array);
  require_found("out of bounds: index -1", writes_before_the_array);
  require_found("out of bounds: an array of 127", makes_too_large_an_array);
  require_found("misaligned array", makes_a_misaligned_array);
}

TEST_CASE("reads of shared memory that was never written are found") {
  require_found("uninitialised shared memory: byte 12", forgets_to_write);
  require_found("uninitialised shared memory", reads_what_another_block_wrote);
  require_found("uninitialised shared memory", writes_half_of_a_word);
}

TEST_CASE("races on shared memory are found") {
  require_found("shared memory race", two_write);
  require_found("shared memory race", all_write_the_same);
  require_found("shared memory race", reads_after_a_write);
  require_found("shared memory race", writes_after_a_read);
  require_found("shared memory race: byte 20", writes_what_all_read);
  require_found("shared memory race", trusts_an_exchange_of_the_warp);
  require_found("shared memory race", writes_neighbouring_bytes);
}

TEST_CASE("divergent barriers are found") {
  require_found("divergent barrier", one_thread_skips_a_barrier);
  require_found("divergent barrier", one_warp_skips_a_barrier);
  require_found("divergent barrier", one_thread_makes_another_round);
  require_found("divergent barrier", two_barriers_meet);
  require_found("divergent barrier", a_warp_is_late_in_an_exchange);
}

TEST_CASE("divergent exchanges of a warp are found") {
  require_found("divergent warp exchange", half_a_warp_votes);
  require_found("divergent warp exchange", halves_vote_apart);
  require_found("divergent warp exchange", lanes_exchange_different_types);
  require_found("bad lane", asks_for_lane_32);
  require_found("bad lane", flips_bit_5_of_the_lane);
}

TEST_CASE("a failure says which thread, and where") {
  std::vector<float> sink(kThreads);
  const Control control{true, sink.data()};
  REQUIRE(launch(reads_behind_the_array, 1, kThreads, kSharedBytes, nullptr, control) != 0);
  const std::string text = last_failure();
  INFO(text);
  REQUIRE(text.find("(thread 63 of block 0, test_emulator_checks.cpp:") != std::string::npos);
  REQUIRE(launch(one_thread_skips_a_barrier, 1, kThreads, 0, nullptr, control) != 0);
  const std::string barrier = last_failure();
  INFO(barrier);
  REQUIRE(barrier.find("thread 0 waits in block_barrier (test_emulator_checks.cpp:") !=
          std::string::npos);
  REQUIRE(barrier.find("thread 17 has finished") != std::string::npos);
}

// --- other memory ------------------------------------------------------------------------------

#if defined(MASKED_ATTN_TEST_ASAN)
namespace {

MASKED_ATTN_KERNEL writes_behind_global_memory(Control c) {
  c.sink[thread_index() + (c.wrong ? 1 : 0)] = 1.0f;
}

MASKED_ATTN_KERNEL reads_behind_a_local_array(Control c) {
  volatile float local[4] = {1, 2, 3, 4};
  block_barrier();
  const volatile int i = c.wrong ? 4 : 3;
  c.sink[thread_index()] = local[i];
}

// Whether a process that runs the kernel ends well.
bool survives(void (*kernel)(Control), bool wrong) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::fclose(stderr);
    std::vector<float> sink(kThreads);
    launch(kernel, 1, kThreads, 0, nullptr, Control{wrong, sink.data()});
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace
#endif

TEST_CASE("an address sanitizer sees what kernels do to other memory") {
#if defined(MASKED_ATTN_TEST_ASAN)
  REQUIRE(survives(writes_behind_global_memory, false));
  REQUIRE_FALSE(survives(writes_behind_global_memory, true));
  REQUIRE(survives(reads_behind_a_local_array, false));
#if defined(__x86_64__) && defined(__linux__) && !defined(MASKED_ATTN_TEST_UCONTEXT)
  // Elsewhere the sanitizer forgets the arrays of a thread when another one runs: see fiber.cpp.
  REQUIRE_FALSE(survives(reads_behind_a_local_array, true));
#else
  note_skipped("bounds of local arrays in CUDA kernels", "needs x86-64 and Linux");
#endif
#else
  note_skipped("bounds of other memory in CUDA kernels", "needs MASKED_ATTN_SANITIZE=address");
#endif
}
