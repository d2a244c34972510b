// The main function of the C++ tests, and a listener that prints what was skipped.
// ctest hides the output of tests that pass, so the notes also go to the file that
// MASKED_ATTN_TEST_NOTES names, if it is set.
#if MASKED_ATTN_CATCH2 == 2
#define CATCH_CONFIG_MAIN
#endif
#include "support/catch.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>

namespace masked_attn_test {
namespace {

#if MASKED_ATTN_CATCH2 == 2
using Listener = Catch::TestEventListenerBase;
#else
using Listener = Catch::EventListenerBase;
#endif

std::set<std::string>& skipped() {
  static std::set<std::string> notes;
  return notes;
}

struct SkipListener : Listener {
  using Listener::Listener;

  void testRunEnded(const Catch::TestRunStats& stats) override {
    Listener::testRunEnded(stats);
    const char* path = std::getenv("MASKED_ATTN_TEST_NOTES");
    std::ofstream file;
    if (path != nullptr) file.open(path, std::ios::app);
    for (const std::string& note : skipped()) {
      std::cout << "skipped: " << note << std::endl;
      if (file.is_open()) file << "skipped: " << note << "\n";
    }
  }
};

}  // namespace

void note_skipped(const std::string& what, const std::string& reason) {
  skipped().insert(what + " (" + reason + ")");
}

}  // namespace masked_attn_test

using masked_attn_test::SkipListener;
CATCH_REGISTER_LISTENER(SkipListener)
