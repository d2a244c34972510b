// The names of kernels/cuda/device.h, for kernels that run on the CPU in tests. What a GPU lets
// pass ends the launch here, and last_failure() (cuda_schedule.h) tells it:
//
// - "out of bounds", "misaligned array": an array or an index outside of the shared memory;
// - "uninitialised shared memory": a read of bytes that the block has not written;
// - "shared memory race": two threads touch a byte between two barriers, and one of them writes,
//   even if both write the same. An exchange of their warp between the two is no excuse;
// - "divergent barrier": a thread waits where another thread of the block never comes, which has
//   finished, or waits at another line;
// - "divergent warp exchange": the same for the lanes of a warp; "bad lane": no such lane.
//
// Global memory is the memory of the process: an address sanitizer watches it.
#pragma once

#include <type_traits>

#include "support/cuda_machine.h"

#define MASKED_ATTN_KERNEL void

struct CUstream_st;

namespace masked_attn::cuda {

using Status = int32_t;
using Stream = CUstream_st*;

inline int64_t block_index() { return emulator::place.block; }
inline int thread_index() { return emulator::place.thread; }
inline int block_threads() { return emulator::place.threads; }
inline int lane_index() { return thread_index() % kWarp; }
inline int warp_index() { return thread_index() / kWarp; }

inline void block_barrier(emulator::Site where = emulator::Site::current()) {
  emulator::wait_for_block("block_barrier", where);
}

namespace emulator {

template <class T>
T value_of_lane(const char* call, T value, int lane, Site where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(Lane));
  if (lane < 0 || lane >= kWarp) fail(where, "bad lane: ", call, " asks for lane ", lane);
  Lane own{};
  std::memcpy(own.bytes, &value, sizeof(T));
  const Lane* const lanes = exchange(call, own, where);
  std::memcpy(&value, lanes[lane].bytes, sizeof(T));
  return value;
}

}  // namespace emulator

template <class T>
T shuffle_xor(T value, int mask, emulator::Site where = emulator::Site::current()) {
  return emulator::value_of_lane("shuffle_xor", value, lane_index() ^ mask, where);
}

template <class T>
T shuffle(T value, int lane, emulator::Site where = emulator::Site::current()) {
  return emulator::value_of_lane("shuffle", value, lane, where);
}

inline uint32_t ballot(bool answer, emulator::Site where = emulator::Site::current()) {
  const emulator::Lane own{{static_cast<unsigned char>(answer)}};
  const emulator::Lane* const lanes = emulator::exchange("ballot", own, where);
  uint32_t bits = 0;
  for (int lane = 0; lane < kWarp; ++lane) bits |= uint32_t{lanes[lane].bytes[0]} << lane;
  return bits;
}

template <class T>
class Shared {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 16);
  static_assert(sizeof(T) < 3 || sizeof(T) % 4 == 0);

 public:
  Shared(int64_t offset, int64_t count, emulator::Site where = emulator::Site::current())
      : offset_(offset), count_(count) {
    emulator::shared_memory.check_array(offset, count, sizeof(T), where);
  }
  T get(int64_t i, emulator::Site where = emulator::Site::current()) const {
    return emulator::shared_memory.read<T>(byte_of(i, where), where);
  }
  void set(int64_t i, T value, emulator::Site where = emulator::Site::current()) const {
    emulator::shared_memory.write<T>(byte_of(i, where), value, where);
  }

 private:
  int64_t byte_of(int64_t i, emulator::Site where) const {
    if (i < 0 || i >= count_) [[unlikely]] {
      emulator::fail(where, "out of bounds: index ", i, " of a shared array of ", count_);
    }
    return offset_ + i * static_cast<int64_t>(sizeof(T));
  }

  int64_t offset_;
  int64_t count_;
};

template <class Params>
Status launch(void (*kernel)(Params), int64_t blocks, int threads, int64_t shared_bytes, Stream,
              const Params& params) {
  // What every version of CUDA takes.
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 4096);
  return emulator::run(blocks, threads, shared_bytes, [&] { kernel(params); });
}

}  // namespace masked_attn::cuda
