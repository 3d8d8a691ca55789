# The device's kernels as data of the kernels layer: two images that a driver loads, which nothing reads before that.
#   kernels.fatbin      code for every generation, and PTX of the newest for those that come
#   kernels-ptx.fatbin  PTX of the oldest generation, for drivers that are older than this toolkit and for devices between
# Both are compressed as all drivers can read it: what toolkits do by default needs drivers of CUDA 12.4 or later.
set(kvtier_device_dir ${CMAKE_CURRENT_SOURCE_DIR}/kernels/device)
set(kvtier_device_source ${kvtier_device_dir}/kernels.cu)
set(kvtier_device_image ${CMAKE_CURRENT_BINARY_DIR}/kernels.fatbin)
set(kvtier_device_ptx_image ${CMAKE_CURRENT_BINARY_DIR}/kernels-ptx.fatbin)
file(GLOB kvtier_device_headers CONFIGURE_DEPENDS ${kvtier_device_dir}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/digest/*.h
                                                  ${CMAKE_CURRENT_SOURCE_DIR}/core/device_code.h)

set(kvtier_device_flags ${kvtier_nvcc_flags} -I${CMAKE_CURRENT_SOURCE_DIR} -Xfatbin=-compress-all)
execute_process(COMMAND ${KVTIER_NVCC} --help OUTPUT_VARIABLE kvtier_nvcc_help ERROR_QUIET)
if(kvtier_nvcc_help MATCHES "--compress-mode")
  list(APPEND kvtier_device_flags --compress-mode=speed)
endif()

set(kvtier_device_codes "")
foreach(target IN LISTS kvtier_device_targets)
  list(APPEND kvtier_device_codes -gencode arch=compute_${target},code=sm_${target})
endforeach()
list(GET kvtier_device_targets 0 kvtier_oldest)
list(GET kvtier_device_targets -1 kvtier_newest)
list(APPEND kvtier_device_codes -gencode arch=compute_${kvtier_newest},code=compute_${kvtier_newest})

add_custom_command(
  OUTPUT ${kvtier_device_image}
  COMMAND ${KVTIER_NVCC} ${kvtier_device_flags} ${kvtier_device_codes} --threads 2 -fatbin ${kvtier_device_source}
          -o ${kvtier_device_image}
  DEPENDS ${kvtier_device_source} ${kvtier_device_headers}
  COMMENT "Compiling the device's kernels"
  VERBATIM)
add_custom_command(
  OUTPUT ${kvtier_device_ptx_image}
  COMMAND ${CMAKE_COMMAND} "-DNVCC=${KVTIER_NVCC}" "-DFLAGS=${kvtier_device_flags}" -DTARGET=${kvtier_oldest}
          -DSOURCE=${kvtier_device_source} -DIMAGE=${kvtier_device_ptx_image}
          -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/compile-ptx.cmake
  DEPENDS ${kvtier_device_source} ${kvtier_device_headers} ${CMAKE_CURRENT_SOURCE_DIR}/cmake/compile-ptx.cmake
  COMMENT "Compiling the device's kernels to PTX"
  VERBATIM)

target_sources(kvtier_layer_kernels PRIVATE ${kvtier_device_image} ${kvtier_device_ptx_image})
set_source_files_properties(
  ${kvtier_device_dir}/device_images.cc
  PROPERTIES OBJECT_DEPENDS "${kvtier_device_image};${kvtier_device_ptx_image}"
             COMPILE_DEFINITIONS
             "KVTIER_DEVICE_IMAGE=\"${kvtier_device_image}\";KVTIER_DEVICE_PTX_IMAGE=\"${kvtier_device_ptx_image}\"")
