# Run as a script by ctest. Reads lists of object files, one list per instruction set, and fails when
# an instruction is outside its set, or when an AVX object defines a weak symbol that another set
# could share: the linker keeps one copy of such a symbol, and the AVX copy crashes an older CPU.
#   cmake -DOBJDUMP=objdump -DNM=nm -Dcommon=list.txt -Dscalar=... -Davx2=... -Davx512=... ... -P this

# What must not occur in the disassembly of each set.
set(forbidden_common "\tv[a-z]+[a-z0-9]* ")  # every AVX instruction starts with v
set(forbidden_scalar "${forbidden_common}")
set(forbidden_avx2 "%zmm|%k[0-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])|%tmm|tilecfg|tilerelease")
set(forbidden_avx512 "\tv[a-z0-9]*bf16|%tmm|tilecfg|tilerelease")  # vdpbf16ps and conversions
set(forbidden_avx512_bf16 "%tmm|tilecfg|tilerelease")
set(forbidden_amx "")
set(forbidden_amx_stand_in "${forbidden_avx2}")

set(problems 0)
set(checked 0)

function(report text)
  message(STATUS "${text}")
  math(EXPR count "${problems} + 1")
  set(problems ${count} PARENT_SCOPE)
endfunction()

# Reads the output of a tool line by line: its brackets and semicolons confuse CMake lists.
function(run_tool out)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE error)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN} failed: ${error}")
  endif()
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

foreach(name common scalar avx2 avx512 avx512_bf16 amx amx_stand_in)
  if(NOT DEFINED ${name})
    continue()
  endif()
  file(STRINGS ${${name}} objects)
  foreach(object IN LISTS objects)
    get_filename_component(file ${object} NAME)
    math(EXPR checked "${checked} + 1")
    if(forbidden_${name})
      run_tool(code ${OBJDUMP} -d --no-show-raw-insn ${object})
      if(code MATCHES "${forbidden_${name}}")
        report("${name}/${file}: has an instruction of another set: '${CMAKE_MATCH_0}'")
      endif()
    endif()
    if(name MATCHES "^a")
      # A weak symbol is safe only if its name holds the namespace of the set.
      string(LENGTH ${name} length)
      run_tool(symbols ${NM} --defined-only ${object})
      string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]+" weak "${symbols}")
      foreach(symbol IN LISTS weak)
        if(NOT symbol MATCHES "${length}${name}")
          report("${name}/${file}: weak symbol outside its namespace: ${symbol}")
        endif()
      endforeach()
    endif()
  endforeach()
endforeach()

if(problems)
  message(FATAL_ERROR "${problems} problems in ${checked} objects")
endif()
if(NOT checked)
  message(FATAL_ERROR "no object was checked")
endif()
message(STATUS "${checked} objects keep to their instruction sets")
