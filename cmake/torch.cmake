# Finds torch and makes the target `masked_attn_torch`.
# The installed torch package is used through its include and lib folders: find_package(Torch) fails
# with a CUDA build of torch on a machine without a complete CUDA toolkit. It is used only for a
# plain LibTorch (-DMASKED_ATTN_LIBTORCH=folder), where there is no Python to ask.
# Sets MASKED_ATTN_TORCH_VERSION, MASKED_ATTN_TORCH_CUDA ("" for a CPU build),
# MASKED_ATTN_TORCH_ABI (0 or 1) and MASKED_ATTN_TORCH_LIB_DIR.

set(MASKED_ATTN_TORCH_PROBE [[
import os, torch
print(torch.__version__)
print(os.path.dirname(os.path.abspath(torch.__file__)))
print(torch.version.cuda or "")
print(int(torch._C._GLIBCXX_USE_CXX11_ABI))
]])

function(masked_attn_import_library target file)
  add_library(${target} SHARED IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${file})
endfunction()

# Imports libraries of the torch package as masked_attn_torch_<name>.
function(masked_attn_import_torch_libraries)
  foreach(name IN LISTS ARGN)
    set(file ${MASKED_ATTN_TORCH_LIB_DIR}/${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX})
    if(NOT EXISTS ${file})
      message(FATAL_ERROR "torch ${MASKED_ATTN_TORCH_VERSION} has no ${file}: reinstall torch.")
    endif()
    masked_attn_import_library(masked_attn_torch_${name} ${file})
  endforeach()
endfunction()

macro(masked_attn_torch_from_python)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c "${MASKED_ATTN_TORCH_PROBE}"
    RESULT_VARIABLE probe_result
    OUTPUT_VARIABLE probe_output
    ERROR_VARIABLE probe_error)
  if(NOT probe_result EQUAL 0)
    message(FATAL_ERROR
      "torch is missing: ${Python3_EXECUTABLE} cannot import it.\n"
      "Install the build of torch that you want (for the CPU: the CPU build from PyTorch's install "
      "page), then run: pip install --no-build-isolation .\n${probe_error}")
  endif()
  string(REGEX MATCH "^([^\n]*)\n([^\n]*)\n([^\n]*)\n([01])" _ "${probe_output}")
  set(MASKED_ATTN_TORCH_VERSION "${CMAKE_MATCH_1}")
  set(torch_folder "${CMAKE_MATCH_2}")
  set(MASKED_ATTN_TORCH_CUDA "${CMAKE_MATCH_3}")
  set(MASKED_ATTN_TORCH_ABI "${CMAKE_MATCH_4}")
  set(MASKED_ATTN_TORCH_LIB_DIR "${torch_folder}/lib")

  masked_attn_import_torch_libraries(torch torch_cpu c10)
  add_library(masked_attn_torch INTERFACE)
  target_include_directories(masked_attn_torch SYSTEM INTERFACE
    ${torch_folder}/include ${torch_folder}/include/torch/csrc/api/include)
  target_link_libraries(masked_attn_torch INTERFACE
    masked_attn_torch_torch masked_attn_torch_torch_cpu masked_attn_torch_c10)
  target_compile_definitions(masked_attn_torch INTERFACE
    _GLIBCXX_USE_CXX11_ABI=${MASKED_ATTN_TORCH_ABI})
  # Headers only, for the pybind11 module, which must not link to torch.
  add_library(masked_attn_pybind11 INTERFACE)
  target_include_directories(masked_attn_pybind11 SYSTEM INTERFACE ${torch_folder}/include)
endmacro()

macro(masked_attn_torch_from_libtorch)
  find_package(Torch REQUIRED PATHS ${MASKED_ATTN_LIBTORCH} NO_DEFAULT_PATH)
  add_library(masked_attn_torch INTERFACE)
  target_link_libraries(masked_attn_torch INTERFACE ${TORCH_LIBRARIES})
  target_compile_options(masked_attn_torch INTERFACE ${TORCH_CXX_FLAGS})
  set(MASKED_ATTN_TORCH_VERSION "${Torch_VERSION}")
  set(MASKED_ATTN_TORCH_LIB_DIR "${MASKED_ATTN_LIBTORCH}/lib")
  set(MASKED_ATTN_TORCH_CUDA "${CUDA_VERSION}")
  set(MASKED_ATTN_TORCH_ABI 1)
endmacro()

if(MASKED_ATTN_LIBTORCH)
  masked_attn_torch_from_libtorch()
else()
  masked_attn_torch_from_python()
endif()
message(STATUS "masked_attn: torch ${MASKED_ATTN_TORCH_VERSION} (${MASKED_ATTN_TORCH_LIB_DIR})")
