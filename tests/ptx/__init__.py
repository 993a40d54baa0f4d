"""An interpreter of PTX, the assembly language that Numba compiles CUDA kernels to: GPU code run on the CPU, checked.

parser      text -> Program: basic blocks of instructions, with what they read and write
semantics   what an instruction computes, as NumPy on one value for each thread
translate   a basic block -> a Python function
memory      global, shared and local memory that report what no GPU would: accesses out of bounds or not aligned, reads
            of what nobody wrote, and races
machine     threads, divergence, barriers and the grid
compile     a Numba kernel -> PTX
host        stand-ins for CUDA arrays
executor    what fastconv launches its kernels on in tests

Threads are lanes of NumPy arrays, many blocks at once, or one after another from either end. Not modelled: time,
flushing of subnormal numbers, the rounding of approximate instructions (they are computed exactly), a fused
multiply-add of float64 (it rounds twice), and what the assembler makes of the code.
"""

UNIT = {"float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}  # distance of 1 from the next number
