// What the machine's CPU can do, asked once per call; kernels.cpp keeps the answer.
#pragma once

namespace runnel {

bool cpu_has_avx512vnni();  // F, BW, DQ, VL, VNNI and FMA, with the operating system saving the registers
bool cpu_has_avx2();        // AVX2, FMA, F16C
bool cpu_has_neon();
bool cpu_has_neon_dotprod();
bool cpu_has_neon_i8mm();  // i8mm and dotprod
// A module is refused as a whole by machines that lack what it was compiled for.
inline bool cpu_has_wasm_simd128() { return true; }
inline bool cpu_has_scalar() { return true; }

// Marketing name of the CPU for reports; "unknown CPU" when the system does not tell.
void cpu_name(char* buffer, int size);

}  // namespace runnel
