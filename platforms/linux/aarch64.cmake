# Cross build for 64-bit Arm Linux with Debian's g++-aarch64-linux-gnu. Programs are linked statically, so that they run under
# user-mode emulation (qemu-user-static) and on any distribution; ctest uses the emulator by itself.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
# `max` has every extension that a kernel may ask for. For the dispatch alone: -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64-static;-cpu;cortex-a53".
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64-static;-cpu;max" CACHE STRING "Runs target programs on this machine")
