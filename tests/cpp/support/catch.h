// The one header that C++ tests include for Catch2, version 2 or 3.
#pragma once

#if MASKED_ATTN_CATCH2 == 2
#include <catch2/catch.hpp>
#else
#include <catch2/catch_all.hpp>
#endif

#include <string>

namespace masked_attn_test {

#if MASKED_ATTN_CATCH2 == 2
using Approx = Catch::Detail::Approx;
#else
using Catch::Approx;
#endif

// Says at the end of the run that something could not be tested here, and why. Each text once.
// Catch2 2 has no SKIP, so a test notes it and returns or goes on with the rest.
void note_skipped(const std::string& what, const std::string& reason);

}  // namespace masked_attn_test
