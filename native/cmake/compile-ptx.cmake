# Run with -P: compiles SOURCE with NVCC and FLAGS to an IMAGE of nothing but PTX for TARGET. The PTX gets the version of
# CUDA 11.4, the oldest driver that kvtier takes, where it is valid PTX of that version: nvcc writes its own version, which
# older drivers refuse unseen.
set(lowest 7.4)

function(run)
  execute_process(COMMAND ${ARGV} OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${output}")
  endif()
endfunction()

run(${NVCC} ${FLAGS} -ptx -arch=compute_${TARGET} ${SOURCE} -o ${IMAGE}.ptx)
file(READ ${IMAGE}.ptx ptx)
if(ptx MATCHES "\n\\.version ([0-9]+\\.[0-9]+)\n" AND CMAKE_MATCH_1 VERSION_GREATER lowest)
  string(REGEX REPLACE "\n\\.version [0-9]+\\.[0-9]+\n" "\n.version ${lowest}\n" lowered "${ptx}")
  file(WRITE ${IMAGE}.ptx "${lowered}")
  execute_process(COMMAND ${NVCC} -cubin -arch=sm_${TARGET} ${IMAGE}.ptx -o ${IMAGE}.cubin
                  OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(STATUS "The kernels' PTX is not valid as PTX ${lowest} and stays as it is: ${output}")
    file(WRITE ${IMAGE}.ptx "${ptx}")
  endif()
endif()
run(${NVCC} ${FLAGS} -fatbin -gencode arch=compute_${TARGET},code=compute_${TARGET} ${IMAGE}.ptx -o ${IMAGE})
