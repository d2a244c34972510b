# Finds Catch2 (3, else 2, else fetches 3) and adds test executables with it.
# The versions differ in headers and main; tests include only support/catch.h, which hides that.

find_package(Catch2 3 QUIET)
if(NOT Catch2_FOUND)
  find_package(Catch2 2 QUIET)
endif()
if(NOT Catch2_FOUND)
  message(STATUS "masked_attn: Catch2 is not installed: fetching it")
  include(FetchContent)
  FetchContent_Declare(Catch2 GIT_REPOSITORY https://github.com/catchorg/Catch2.git
                       GIT_TAG v3.5.4 GIT_SHALLOW ON)
  FetchContent_MakeAvailable(Catch2)
  list(APPEND CMAKE_MODULE_PATH ${catch2_SOURCE_DIR}/extras)
  set(Catch2_VERSION 3.5.4)
endif()
include(Catch)
string(REGEX MATCH "^[0-9]+" MASKED_ATTN_CATCH2_MAJOR "${Catch2_VERSION}")
message(STATUS "masked_attn: C++ tests with Catch2 ${Catch2_VERSION}")

# The main function and the listener, compiled once for all executables.
add_library(masked_attn_test_main OBJECT ${PROJECT_SOURCE_DIR}/tests/cpp/support/main.cpp)
target_compile_definitions(masked_attn_test_main
                           PUBLIC MASKED_ATTN_CATCH2=${MASKED_ATTN_CATCH2_MAJOR})
target_include_directories(masked_attn_test_main PUBLIC ${PROJECT_SOURCE_DIR}/tests/cpp)
if(MASKED_ATTN_CATCH2_MAJOR EQUAL 2)
  target_link_libraries(masked_attn_test_main PUBLIC Catch2::Catch2)
else()
  target_link_libraries(masked_attn_test_main PUBLIC Catch2::Catch2WithMain)
endif()

# Adds executable `name` from tests/cpp/<folder>/*.cpp, each test case known to ctest.
function(masked_attn_add_test name folder library)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/cpp/${folder}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources} $<TARGET_OBJECTS:masked_attn_test_main>)
  find_package(Threads REQUIRED)
  target_link_libraries(${name} PRIVATE masked_attn_test_main ${library} Threads::Threads)
  target_compile_options(${name} PRIVATE -Wall -Wextra)
  catch_discover_tests(${name} TEST_PREFIX "${folder}: ")
endfunction()
