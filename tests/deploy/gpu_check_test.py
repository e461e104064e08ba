#!/usr/bin/env python3
"""gpu_check.sh reports what the programs beside it say. Scripts stand in for
those, as there may be no GPU here; bare_debian_test.sh runs the real ones."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..",
                      "deploy", "gpu_check.sh")

COPIES = """cat <<END
Some GPU, compute capability 9.0

| size | copies | to device, GB/s |
|---|---|---|
| 4 KiB | 1 | 0.5 |
END"""
ALL_PASS = 'echo "[  PASSED  ] 40 tests."'
# Serves until it is told to stop, as the daemon does.
SERVER = """while [ $# -gt 0 ]; do
  case "$1" in
    --backend) backend=$2 ;;
    --port_file) port_file=$2 ;;
  esac
  shift
done
trap 'exit 0' TERM
echo "grpc_port=$backend" >"$port_file"
while :; do sleep 0.05; done"""


def client(cuda_ids, cpu_ids="7,8,9"):
    return f"""case "$*" in
  generate*127.0.0.1:cuda*) echo '{{"text":"x","token_ids":[{cuda_ids}],"a":1}}' ;;
  generate*) echo '{{"text":"x","token_ids":[{cpu_ids}],"a":1}}' ;;
  bench*) echo "requests 2 completed" ;;
esac"""


class GpuCheckTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        os.mkdir(os.path.join(self.folder, "bin"))
        shutil.copy(SCRIPT, self.folder)
        self.model = os.path.join(self.folder, "model.gguf")
        with open(self.model, "w", encoding="utf-8"):
            pass
        self.program("copy_bench", COPIES)
        self.program("cuda_gpu_test", ALL_PASS)
        self.program("sentencekv-server", SERVER)
        self.program("sentencekv", client("7,8,9"))

    def program(self, name, text):
        path = os.path.join(self.folder, "bin", name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + text + "\n")
        os.chmod(path, 0o755)

    def check(self, *arguments, **environment):
        """Exit status, standard error, report."""
        path = os.path.join(self.folder, "report.md")
        result = subprocess.run(
            [os.path.join(self.folder, "gpu_check.sh"), "--report", path,
             *arguments],
            env={**os.environ, "SENTENCEKV_REQUIRE_CUDA": "", **environment},
            capture_output=True, text=True, timeout=60, check=False)
        report = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                report = file.read()
        return result.returncode, result.stderr, report

    def test_all_is_well(self):
        status, _, report = self.check()
        self.assertEqual(status, 0, report)
        self.assertIn("- GPU: Some GPU", report)
        self.assertIn("| 4 KiB | 1 | 0.5 |", report)
        self.assertIn("| 40 | 0 | 0 |", report)
        self.assertIn("All is well.", report)

    def test_no_device(self):
        self.program("copy_bench", "echo 'copy_bench: no GPU' >&2; exit 5")
        status, error, report = self.check()
        self.assertEqual((status, error, report),
                         (5, "gpu_check.sh: no GPU\n", ""))

    def test_copies_fail(self):
        self.program("copy_bench", COPIES + "\necho 'out of memory' >&2; exit 1")
        status, _, report = self.check()
        self.assertEqual(status, 1)
        self.assertIn("FAILED: copies: out of memory", report)

    def test_slow_copies_are_a_warning(self):
        self.program("copy_bench", COPIES + "\necho 'WARNING: 9 GB/s'")
        status, error, _ = self.check()
        self.assertEqual(status, 0)
        self.assertIn("WARNING: 9 GB/s", error)

    def test_a_kernel_test_fails(self):
        self.program(
            "cuda_gpu_test", """cat <<END
[  FAILED  ] Seeds/Some.Test/0, where GetParam() = 1 (3 ms)
[  PASSED  ] 38 tests.
[  SKIPPED ] 1 test, listed below:
[  FAILED  ] 1 test, listed below:
[  FAILED  ] Seeds/Some.Test/0, where GetParam() = 1
END
exit 1""")
        status, _, report = self.check()
        self.assertEqual(status, 1)
        self.assertIn("| 38 | 1 | 1 |", report)
        self.assertEqual(report.count("- Seeds/Some.Test/0\n"), 1)
        self.assertIn("FAILED: 1 kernel tests failed", report)

    def test_the_tests_crash(self):
        self.program("cuda_gpu_test", "echo about to; kill -SEGV $$")
        status, _, report = self.check()
        self.assertEqual(status, 1)
        self.assertIn("cuda_gpu_test ended with 139", report)
        self.assertIn("    about to", report)

    def test_skipped_tests_fail_where_cuda_is_required(self):
        self.program("cuda_gpu_test",
                     ALL_PASS + '\necho "[  SKIPPED ] 2 tests, listed below:"')
        self.assertEqual(self.check()[0], 0)
        status, _, report = self.check(SENTENCEKV_REQUIRE_CUDA="1")
        self.assertEqual(status, 1)
        self.assertIn("2 kernel tests were skipped", report)

    def test_no_test_passes(self):
        self.program("cuda_gpu_test", 'echo "[  PASSED  ] 0 tests."')
        self.assertEqual(self.check()[0], 1)

    def test_a_model(self):
        self.program("sentencekv", client("7,8,4"))
        status, _, report = self.check("--model", self.model)
        self.assertEqual(status, 0, report)
        self.assertIn("| The capital of France is | 3 | 2 |", report)
        self.assertEqual(report.count("requests 2 completed"), 4)

    def test_a_model_with_another_first_token(self):
        self.program("sentencekv", client("6,8,9"))
        status, _, report = self.check("--model", self.model)
        self.assertEqual(status, 1)
        self.assertIn("part at the first token", report)

    def test_a_model_without_answers(self):
        self.program("sentencekv", client(""))
        status, _, report = self.check("--model", self.model)
        self.assertEqual(status, 1)
        self.assertIn("cuda: no answer", report)

    def test_a_server_that_does_not_start(self):
        self.program("sentencekv-server", "echo no memory >&2; exit 3")
        status, _, report = self.check("--model", self.model)
        self.assertEqual(status, 1)
        self.assertIn("--backend cuda ended with 3", report)

    def test_random_weights(self):
        status, _, report = self.check("--random-weights", self.model)
        self.assertEqual(status, 0, report)
        self.assertEqual(report.count("    requests 2 completed"), 4)
        self.assertIn("    16384, policy sentence:", report)
        self.program("sentencekv", "exit 4")
        status, _, report = self.check("--random-weights", self.model)
        self.assertEqual(status, 1)
        self.assertIn("bench of 1024 tokens, policy full, failed", report)

    def test_usage(self):
        self.assertEqual(self.check("--modle", "x")[0], 2)
        self.assertEqual(self.check("--model")[0], 2)
        self.assertEqual(self.check("--model", "/no/such/file")[0], 2)


if __name__ == "__main__":
    sys.exit(unittest.main())
