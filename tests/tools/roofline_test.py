#!/usr/bin/env python3
"""roofline.py adds up counts, turns them into times, and compares pages."""
import json
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import roofline  # noqa: E402
import roofline_model  # noqa: E402

TOKENS = roofline.CONTEXTS["4K"]


def record(part, name, read, written, per="layer", steps=1, rows=1, launches=1,
           host_read=0, host_written=0):
    return json.dumps({
        "part": part, "tokens": 0 if part == "dense" else TOKENS, "rows": rows,
        "per": per, "steps": steps, "name": name, "launches": launches,
        "bytes_read": read, "bytes_written": written,
        "host_bytes_read": host_read, "host_bytes_written": host_written})


def counts():
    """Numbers that can be added up by hand."""
    return roofline_model.Counts([
        record("dense", "matmul", 1000, 100, launches=4),
        record("dense", "matmul", 5000, 500, per="step"),
        record("dense", "copy to host", 7, 7, per="step", host_written=7),
        record("dense", "matmul", 1200, 200, launches=4, rows=8),
        record("dense", "matmul", 6000, 600, per="step", rows=8),
        record("full", "MmaKernel<__nv_bfloat16, 128>", 300, 30),
        record("mean", "VectorsKernel", 50, 5),
        record("mean", "IndexKernel<__nv_bfloat16>", 240, 24, steps=24),
        record("sign", "ChooseKernel, signs", 50, 10, launches=0),
        record("chosen", "GatherRunsKernel", 44, 40, steps=4, launches=4,
               host_read=40),
        json.dumps({"choices": 32, "tokens": TOKENS, "sentences_of_text": 170,
                    "tokens_refined": 100,
                    "sentences": 320, "attended": 6400, "hits": 90,
                    "misses": 10, "bytes": 40, "run_bytes": 8, "slots": 6}),
    ])


class StepTest(unittest.TestCase):

    def assertClose(self, value, expected):
        self.assertAlmostEqual(value / expected, 1, places=9)

    def test_adds_layers_and_what_is_outside(self):
        step = roofline_model.Step(counts(), "full", TOKENS)
        self.assertEqual(step.traffic, (32 * 5 + 1, 1, 32 * 1430 + 5507, 0, 7))
        self.assertEqual(step.product_bytes, 32 * 1100 + 5500)

    def test_divides_by_steps_and_leaves_the_link_out(self):
        step = roofline_model.Step(counts(), "sentence, mean", TOKENS)
        hbm = 32 * (1100 + 55 + 264 / 24 + (84 - 40) / 4) + 5507
        self.assertClose(step.traffic.hbm, hbm)
        self.assertClose(step.traffic.to_device, 32 * 10)
        self.assertClose(step.layer_launches, 4 + 1 + 1 / 24 + 1)

    def test_sequences_share_what_is_dense(self):
        one = roofline_model.Step(counts(), "sentence, mean", TOKENS)
        step = roofline_model.Step(counts(), "sentence, mean", TOKENS, 8)
        own = 32 * (55 + 11 + 11)
        self.assertClose(step.traffic.hbm, 32 * 1400 + 6600 + 8 * own)
        self.assertClose(step.traffic.to_device, 8 * 320)
        self.assertEqual(step.layer_launches, one.layer_launches)

    def test_time_is_of_bytes_launches_and_the_link(self):
        step = roofline_model.Step(counts(), "full", TOKENS)
        # Its 7 bytes to the host run beside.
        device = (32 * 1430 + 5507) / roofline_model.HBM_BYTES_PER_SECOND
        self.assertClose(step.seconds(1e-6), device + 162e-6)
        step.link_seconds = 1
        self.assertClose(step.seconds(1e-6), device + 162e-6 + 1)
        self.assertClose(step.seconds(1e-6, link_is_hidden=True), 1)

    def test_arithmetic_is_waited_for_where_it_takes_longer(self):
        rest = (32 * (1100 + 11) + 5507) / roofline_model.HBM_BYTES_PER_SECOND
        products = 32 * 128 / roofline_model.F32_PER_SECOND
        for policy, own_bytes, scoring in (
                # Scores of 170 sentences move 66 bytes of a layer.
                ("sentence, mean", 66, 170 * products),
                # A choice's signs are looked at on one of 132 processors, at
                # half the rate.
                ("sentence, sign", 60,
                 (170 + 100 * 2 * 132 / 8) * products)):
            self.assertGreater(
                scoring, own_bytes / roofline_model.HBM_BYTES_PER_SECOND)
            step = roofline_model.Step(counts(), policy, TOKENS)
            self.assertClose(step.device_seconds, 32 * scoring + rest)

    def test_bytes_are_waited_for_where_they_take_longer(self):
        step = roofline_model.Step(counts(), "full", TOKENS)
        self.assertClose(step.device_seconds, (32 * 1430 + 5507) /
                         roofline_model.HBM_BYTES_PER_SECOND)


class ComplaintsTest(unittest.TestCase):

    FRESH = "| 4K | full | 1 |\n| `A` | dense | 7 |\nwords\n"

    def complaints(self, page):
        return list(roofline.complaints(page, self.FRESH, {"4K": 4096}))

    def test_other_contexts_and_columns_are_not_compared(self):
        self.assertEqual(self.complaints(
            "| 4K | full | 1 |\n| 32K | full | 2 |\n| `A` | dense | 7 | 8 |\n"),
            [])

    def test_another_number(self):
        self.assertEqual(len(self.complaints(
            "| 4K | full | 1 |\n| `A` | dense | 77 | 8 |\n")), 2)

    def test_a_row_too_few(self):
        self.assertEqual(self.complaints("| 4K | full | 1 |\n"),
                         ["the page lacks: | `A` | dense | 7"])

    def test_a_row_too_many(self):
        self.assertEqual(self.complaints(
            self.FRESH + "| `B` | dense | 7 | 8 |\n"),
            ["was not counted: | `B` | dense | 7 | 8"])


if __name__ == "__main__":
    unittest.main()
