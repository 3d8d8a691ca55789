# The engine of test/gpu/engine, an addon that decodes on a GPU: kvtier_gpu_engine in <build>/testing, with its kernels
# compiled as kvtier's own are. Their host forms are in the simulated driver.
set(kvtier_engine_dir ${kvtier_test_dir}/gpu/engine)
file(GLOB kvtier_engine_sources CONFIGURE_DEPENDS ${kvtier_engine_dir}/*.cc)
list(FILTER kvtier_engine_sources EXCLUDE REGEX "/kernels_host\\.cc$")
kvtier_addon(kvtier_gpu_engine OUTPUT testing SOURCES ${kvtier_engine_sources})

if(kvtier_cuda)
  set(kvtier_engine_image ${CMAKE_CURRENT_BINARY_DIR}/engine-kernels.fatbin)
  file(GLOB kvtier_engine_headers CONFIGURE_DEPENDS ${kvtier_engine_dir}/*.h)
  add_custom_command(
    OUTPUT ${kvtier_engine_image}
    COMMAND ${KVTIER_NVCC} ${kvtier_device_flags} -I${kvtier_test_dir} ${kvtier_device_codes} --threads 2
            -fatbin ${kvtier_engine_dir}/kernels.cu -o ${kvtier_engine_image}
    DEPENDS ${kvtier_engine_dir}/kernels.cu ${kvtier_engine_headers} ${kvtier_device_headers}
    COMMENT "Compiling the engine's kernels"
    VERBATIM)
  target_sources(kvtier_gpu_engine PRIVATE ${kvtier_engine_image})
  set_source_files_properties(
    ${kvtier_engine_dir}/engine_image.cc
    PROPERTIES OBJECT_DEPENDS "${kvtier_engine_image}"
               COMPILE_DEFINITIONS "KVTIER_ENGINE_IMAGE=\"${kvtier_engine_image}\"")
endif()
