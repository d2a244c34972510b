// The machine behind cuda_emulator.h: one block at a time, its threads as fibers of one thread of
// the CPU, its shared memory with a note for each byte of who touched it last.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <source_location>
#include <sstream>
#include <string>
#include <vector>

namespace masked_attn::cuda {

constexpr int kWarp = 32;

namespace emulator {

// Which line of a kernel asks.
using Site = std::source_location;

// What every GPU since compute capability 8.0 has.
constexpr int kMaxThreads = 1024;
constexpr int64_t kMaxSharedBytes = 99 * 1024;
constexpr int64_t kMaxBlocks = INT32_MAX;

// Which thread of which block runs.
struct Place {
  int64_t block;
  int thread;
  int threads;  // of the block
};
extern Place place;

// Notes the first failure of a launch, and which thread met it.
void note_failure(const std::string& text, Site where);
// Leaves the thread that runs, and with it the launch.
[[noreturn]] void abandon();

// `parts` own no memory: nothing on the stack of an abandoned thread is destroyed.
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(Site where, const Parts&... parts) {
  {
    std::ostringstream text;
    (text << ... << parts);
    note_failure(text.str(), where);
  }
  abandon();
}

// Who touched a byte, and when, is one number: the interval between two barriers, and the thread.
// Notes of earlier intervals, blocks and launches are smaller, so they need not be cleared.
class SharedMemory {
 public:
  void begin_launch(int64_t bytes) { bytes_ = bytes; }

  // Every byte is 0xff, NaN in every dtype, and counts as never written.
  void begin_block() {
    // A block that passes half a million barriers would overflow.
    if (interval_ > INT32_MAX / 2) {
      interval_ = 0;
      std::fill(writers_.begin(), writers_.end(), 0);
      std::fill(readers_.begin(), readers_.end(), 0);
    }
    next_interval();
    block_ = interval_;
    std::memset(data_.data(), 0xff, bytes_);
  }
  void next_interval() { interval_ += kNotesPerInterval; }
  void set_thread(int thread) { own_ = interval_ + thread; }

  void check_array(int64_t offset, int64_t count, int64_t element, Site where) const {
    if (offset < 0 || count < 0 || offset > bytes_ || count > (bytes_ - offset) / element) {
      fail(where, "out of bounds: an array of ", count, " x ", element, " bytes at byte ", offset,
           " of shared memory, which has ", bytes_);
    }
    if (offset % 16 != 0) fail(where, "misaligned array: it begins at byte ", offset);
  }

  template <class T>
  T read(int64_t byte, Site where) {
    using Notes = NotesOf<T>;
    for (int64_t i = byte; i < byte + int64_t{sizeof(T)}; i += kNotes<T>) {
      const Notes writer = load<Notes>(writers_, i);
      const Notes other_readers = others(load<Notes>(readers_, i));
      if (any((writer < block_) | others(writer))) [[unlikely]]
        fail_read(byte, sizeof(T), where);
      store((other_readers & (interval_ + kSeveral)) | (~other_readers & own_), &readers_, i);
    }
    T value;
    std::memcpy(&value, data_.data() + byte, sizeof(T));
    return value;
  }

  template <class T>
  void write(int64_t byte, T value, Site where) {
    using Notes = NotesOf<T>;
    for (int64_t i = byte; i < byte + int64_t{sizeof(T)}; i += kNotes<T>) {
      const Notes other_writers = others(load<Notes>(writers_, i));
      const Notes other_readers = others(load<Notes>(readers_, i));
      if (any(other_writers | other_readers)) [[unlikely]]
        fail_write(byte, sizeof(T), where);
      store(Notes{} + own_, &writers_, i);
    }
    std::memcpy(data_.data() + byte, &value, sizeof(T));
  }

 private:
  static constexpr int32_t kSeveral = kMaxThreads;  // instead of the number of a thread
  static constexpr int32_t kNotesPerInterval = 2 * kMaxThreads;

  // Every access of every thread looks at notes, so some are looked at together, as a vector.
  template <class T>
  static constexpr int64_t kNotes = sizeof(T) < 4 ? sizeof(T) : 4;
  template <class T>
  using NotesOf [[gnu::vector_size(kNotes<T> * sizeof(int32_t))]] = int32_t;

  template <class Notes>
  static Notes load(const std::vector<int32_t>& from, int64_t byte) {
    Notes notes;
    std::memcpy(&notes, from.data() + byte, sizeof(notes));
    return notes;
  }
  template <class Notes>
  static void store(Notes notes, std::vector<int32_t>* to, int64_t byte) {
    std::memcpy(to->data() + byte, &notes, sizeof(notes));
  }
  // All bits set where another thread left a note in this interval.
  template <class Notes>
  Notes others(Notes notes) const {
    return (notes >= interval_) & (notes != own_);
  }
  template <class Notes>
  static bool any(Notes notes) {
    const Notes none{};
    return std::memcmp(&notes, &none, sizeof(notes)) != 0;
  }

  [[noreturn, gnu::cold]] void fail_read(int64_t byte, int bytes, Site where) const;
  [[noreturn, gnu::cold]] void fail_write(int64_t byte, int bytes, Site where) const;

  int64_t bytes_ = 0;
  int32_t block_ = 0;     // the first note of the block
  int32_t interval_ = 0;  // the first note of the interval
  int32_t own_ = 0;       // the note of the thread that runs
  std::vector<char> data_ = std::vector<char>(kMaxSharedBytes);
  std::vector<int32_t> writers_ = std::vector<int32_t>(kMaxSharedBytes);
  std::vector<int32_t> readers_ = std::vector<int32_t>(kMaxSharedBytes);
};
extern SharedMemory shared_memory;

// What the lanes of a warp give each other.
struct alignas(16) Lane {
  unsigned char bytes[16];
};

// Returns when all threads of the block are here.
void wait_for_block(const char* call, Site where);
// Gives `own` to the warp; returns what its lanes gave. That stays until the next exchange.
const Lane* exchange(const char* call, const Lane& own, Site where);

// Runs `thread` once for each thread of each block.
int32_t run(int64_t blocks, int threads, int64_t shared_bytes, const std::function<void()>& thread);

}  // namespace emulator
}  // namespace masked_attn::cuda
