# Cross build for 32-bit Arm Linux: armv7 with hard float, NEON where the CPU has it (Raspberry Pi 2 and later on a 32-bit system).
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(triple arm-linux-gnueabihf)
set(emulator qemu-arm-static)
include(${CMAKE_CURRENT_LIST_DIR}/cross.cmake)
