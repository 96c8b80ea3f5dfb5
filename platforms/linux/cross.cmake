# What the cross builds share: aarch64.cmake and armv7.cmake set `triple` and `emulator` and include this. clang finds the headers and libraries of
# Debian's g++-<triple> by its target, and that package's linker; a preset or -DCMAKE_CXX_COMPILER=<triple>-g++ takes GCC itself instead.
set(CMAKE_SYSTEM_NAME Linux)
if(NOT CMAKE_C_COMPILER)
  set(CMAKE_C_COMPILER clang)
endif()
if(NOT CMAKE_CXX_COMPILER)
  set(CMAKE_CXX_COMPILER clang++)
endif()
# GCC's name is its target; CMake passes these on to clang alone.
set(CMAKE_C_COMPILER_TARGET ${triple})
set(CMAKE_CXX_COMPILER_TARGET ${triple})
# The host's own know nothing of other machines' files.
foreach(tool IN ITEMS ar ranlib nm strip objcopy objdump readelf)
  string(TOUPPER CMAKE_${tool} variable)
  set(${variable} ${triple}-${tool})
endforeach()
# Static programs run under user-mode emulation and on any distribution. Those of packages are not: the Vulkan loader is opened by name, with the
# C library of the machine that it is on.
option(RUNNEL_STATIC_PROGRAMS "Link programs statically in cross builds" ON)
if(RUNNEL_STATIC_PROGRAMS)
  set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
endif()
# Without a CPU's name the emulator offers everything that a kernel may ask for; QEMU_CPU in the environment of ctest names another one.
set(CMAKE_CROSSCOMPILING_EMULATOR ${emulator};-L;/usr/${triple} CACHE STRING "Runs target programs on this machine")
