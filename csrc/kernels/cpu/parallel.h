// Hands tasks to the caller's threads, first come, first served.
#pragma once

#include "../mask.h"

namespace masked_attn {
inline namespace MASKED_ATTN_TARGET {

// While it lives the thread computes with denormals and rounds to nearest, whatever its owner asked
// for: threads of a pool differ in that, and who takes which task must not show in a result.
class UsualArithmetic {
 public:
#if defined(__SSE2__)
  UsualArithmetic() : state_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(kUsual); }
  ~UsualArithmetic() { __builtin_ia32_ldmxcsr(state_); }
  UsualArithmetic(const UsualArithmetic&) = delete;
  UsualArithmetic& operator=(const UsualArithmetic&) = delete;

 private:
  static constexpr uint32_t kUsual = 0x1f80;  // as at the start of a process
  uint32_t state_;
#endif
};

template <class Body>
struct TaskQueue {
  const Body* body;
  int64_t tasks;
  // On a cache line of its own: each task taken writes it, and every worker reads the rest.
  alignas(64) int64_t next;

  static void work(int64_t begin, int64_t end, void* context) {
    TaskQueue* queue = static_cast<TaskQueue*>(context);
    [[maybe_unused]] const UsualArithmetic usual;
    for (int64_t worker = begin; worker < end; ++worker) {
      for (;;) {
        const int64_t task = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);
        if (task >= queue->tasks) break;
        (*queue->body)(task, worker);
      }
    }
  }
};

// Calls `body(task, worker)` once for each task. A worker, not an operating system thread, owns a
// slice of the workspace: inside a parallel region the caller's threads may run workers in turn.
// Tasks are taken in order, so put the largest first. Returns the caller's error code.
template <class Body>
inline int32_t for_each_task(const Threads& threads, int64_t tasks, const Body& body) {
  if (tasks <= 0) return 0;
  TaskQueue<Body> queue{&body, tasks, 0};
  const int64_t workers = min_of(max_of(threads.count, 1), tasks);
  if (workers == 1) {
    TaskQueue<Body>::work(0, 1, &queue);
    return 0;
  }
  return threads.parallel_for(0, workers, 1, &TaskQueue<Body>::work, &queue);
}

}  // namespace MASKED_ATTN_TARGET
}  // namespace masked_attn
