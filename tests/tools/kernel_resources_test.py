#!/usr/bin/env python3
"""kernel_resources.py reads what ptxas prints, and complains of what it should."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kernel_resources  # noqa: E402

# As nvcc 13.0 mangles and prints.
SYMBOL = ("_ZN10sentencekv53_GLOBAL__N__419e5654_20_attention_kernels_cu_187c4d8e"
          "9MmaKernelI13__nv_bfloat16Li128EEEvNS_15AttentionLaunchE")
REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{symbol}' for '{architecture}'
ptxas info    : Function properties for {symbol}
    {spills} bytes stack frame, {spills} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 77 registers, used 1 barriers, 256 bytes smem, 504 bytes cmem[0]
"""


def report(spills=0, architectures=tuple(kernel_resources.ARCHITECTURES),
           symbol=SYMBOL):
    return "".join(
        REPORT.format(symbol=symbol, architecture=architecture, spills=spills)
        for architecture in architectures)


class KernelResourcesTest(unittest.TestCase):

    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "attention_kernels.cu.o.ptxas")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return kernel_resources.read_reports(folder)

    def complaints(self, text):
        """Of kernels other than MmaKernel, all of which are missing."""
        return [
            line for line in kernel_resources.complaints(self.read(text))
            if "was compiled" not in line or "MmaKernel" in line
        ]

    def test_reads_name_registers_and_memory(self):
        found = self.read(report())
        self.assertEqual(list(found),
                         [("attention_kernels", "MmaKernel<bf16, 128>")])
        usage = found["attention_kernels", "MmaKernel<bf16, 128>"]["sm_89"]
        self.assertEqual(usage, (77, 256, 0))
        self.assertIn("| `MmaKernel<bf16, 128>`", kernel_resources.table(found))

    def test_nothing_is_wrong(self):
        self.assertEqual(self.complaints(report()), [])

    def test_a_hot_kernel_spills(self):
        self.assertEqual(
            len(self.complaints(report(spills=8))), 3)

    def test_an_architecture_is_missing(self):
        lines = self.complaints(report(architectures=("sm_80", "sm_90a")))
        self.assertEqual(len(lines), 1)
        self.assertIn("not compiled for sm_89", lines[0])

    def test_an_unknown_kernel(self):
        unknown = SYMBOL.replace("9MmaKernel", "12OffendKernel")
        lines = self.complaints(report(symbol=unknown))
        self.assertIn("OffendKernel<bf16, 128> is not in KERNELS", lines[0])

    def test_a_kernel_that_is_gone(self):
        lines = list(kernel_resources.complaints(self.read(report())))
        self.assertIn("rope_kernels: no RopeTableKernel was compiled", lines)

    def test_no_reports(self):
        self.assertIn("build the target", self.complaints("")[0])

    # The numbers of NVIDIA's occupancy calculator.
    def test_blocks_per_processor(self):
        for architecture, registers, shared, threads, blocks in (
            ("sm_80", 32, 0, 256, 8),  # warps
            ("sm_89", 32, 0, 256, 6),
            ("sm_90a", 16, 0, 32, 32),  # blocks
            ("sm_89", 16, 0, 32, 24),
            ("sm_90a", 128, 0, 256, 2),  # registers
            ("sm_90a", 34, 0, 256, 6),  # 34 become 40
            ("sm_80", 168, 0, 96, 4),  # three warps of 12, whole quarters
            ("sm_80", 32, 82 * 1024, 128, 1),  # 83 KiB with the system's
            ("sm_90a", 32, 75 * 1024, 128, 3),
        ):
            self.assertEqual(
                kernel_resources.blocks_per_processor(
                    kernel_resources.ARCHITECTURES[architecture], registers,
                    shared, threads), blocks,
                (architecture, registers, shared, threads))


if __name__ == "__main__":
    unittest.main()
