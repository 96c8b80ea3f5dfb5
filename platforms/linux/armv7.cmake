# Cross build for 32-bit Arm Linux (armv7 with NEON, hard float: Raspberry Pi 2 and later on a 32-bit system) with Debian's
# g++-arm-linux-gnueabihf. Linked statically and run under user-mode emulation, as in aarch64.cmake.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(CMAKE_C_COMPILER arm-linux-gnueabihf-gcc)
set(CMAKE_CXX_COMPILER arm-linux-gnueabihf-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-arm-static;-cpu;max" CACHE STRING "Runs target programs on this machine")
