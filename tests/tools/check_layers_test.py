#!/usr/bin/env python3
"""check_layers.py finds each kind of violation, and nothing in a clean tree."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_layers  # noqa: E402

CLEAN = {
    "kernels/buffer.h": '#include <cstdint>\n#include "kernels/dtype.h"\n',
    "kernels/cuda/copy.cu": "#include <cuda_runtime.h>\n",
    "tokenizer/bpe.cc": '#include "tokenizer/bpe.h"\n#include <pcre2.h>\n',
    "cache/pool.cc": '#include "kernels/buffer.h"\n#include "tokenizer/bpe.h"\n',
    "engine/step.cc": '#include "cache/pool.h"\n#include "absl/time/time.h"\n',
    "server/main.cc": '#include <grpcpp/grpcpp.h>\n#include "engine/step.h"\n',
    "tests/server/main_test.cc": '#include "sentencekv/v1/sentencekv.pb.h"\n',
    "proto/sentencekv/v1/sentencekv.proto": 'syntax = "proto3";\n',
    "deploy/quickstart.sh": "",
    "docs/architecture.md": "",
    "CMakeLists.txt": "",
    "CMakePresets.json": "",
    "README.md": "",
    "LICENSE": "",
    ".gitignore": "",
}

# name: (file, its contents, the violation expected)
BROKEN = {
    "kernels include cache":
        ("kernels/a.cc", '#include <new>\n#include "cache/pool.h"\n',
         "kernels/a.cc:2: kernels/ may not include cache/: cache/pool.h"),
    "cache includes engine":
        ("cache/a.h", '#include "engine/step.h"\n',
         "cache/a.h:1: cache/ may not include engine/: engine/step.h"),
    "engine includes server":
        ("engine/a.cc", '  #  include "server/main.h"\n',
         "engine/a.cc:1: engine/ may not include server/: server/main.h"),
    "tokenizer is a leaf":
        ("tokenizer/a.cc", '#include "cache/pool.h"\n',
         "tokenizer/a.cc:1: tokenizer/ may not include cache/: "
         "cache/pool.h"),
    "server includes tests":
        ("server/a.cc", '#include "tests/support/fake_engine.h"\n', None),
    "engine uses gRPC":
        ("engine/b.cc", "#include <grpcpp/server.h>\n",
         "engine/b.cc:1: engine/ may not use gRPC and protobuf: "
         "grpcpp/server.h"),
    "cache uses a generated message":
        ("cache/b.cc", '#include "sentencekv/v1/sentencekv.pb.h"\n',
         "cache/b.cc:1: cache/ may not use gRPC and protobuf: "
         "sentencekv/v1/sentencekv.pb.h"),
    "engine uses the metrics library":
        ("engine/c.cc", "#include <prometheus/counter.h>\n",
         "engine/c.cc:1: engine/ may not use prometheus-cpp: "
         "prometheus/counter.h"),
    "engine uses CUDA":
        ("engine/d.cc", "#include <cuda_runtime.h>\n",
         "engine/d.cc:1: engine/ may not use CUDA: cuda_runtime.h"),
    "include by a relative path":
        ("engine/e.cc", '#include "../cache/pool.h"\n',
         "engine/e.cc:1: include by the path from the root, not: "
         "../cache/pool.h"),
    "include by a bare name":
        ("engine/f.cc", '#include "step.h"\n',
         "engine/f.cc:1: include by the path from the root, not: step.h"),
    "proto imports what is not there":
        ("proto/a.proto", 'import "server/private.proto";\n',
         "proto/a.proto:1: no such file below proto/: server/private.proto"),
    "another top-level folder":
        ("scripts/a.sh", "",
         "scripts: not a top-level entry of this project"),
    "a folder without a purpose":
        ("engine/utils/a.h", "", "engine/utils: say what the folder is for"),
}


class CheckLayersTest(unittest.TestCase):

    def violations(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(text)
            return check_layers.check(root)

    def test_clean_tree_passes(self):
        self.assertEqual(self.violations(CLEAN), [])

    def test_each_violation_is_found(self):
        for name, (path, text, expected) in BROKEN.items():
            with self.subTest(name):
                found = self.violations({**CLEAN, path: text})
                self.assertEqual(len(found), 1, found)
                if expected is not None:
                    self.assertEqual(found[0], expected)

    def test_missing_top_level_entry_is_found(self):
        files = {k: v for k, v in CLEAN.items() if k != "LICENSE"}
        self.assertEqual(self.violations(files),
                         ["LICENSE: missing at the top level"])

    def test_build_folder_and_dot_folders_are_not_looked_at(self):
        extra = {
            "build/release/x.cc": '#include "nowhere.h"\n',
            ".cache/x.cc": '#include "nowhere.h"\n'
        }
        self.assertEqual(self.violations({**CLEAN, **extra}), [])

    def test_exit_status_tells(self):
        self.assertEqual(check_layers.main(["check_layers.py"]), 2)
        with tempfile.TemporaryDirectory() as root:
            self.assertEqual(check_layers.main(["check_layers.py", root]), 1)


if __name__ == "__main__":
    unittest.main()
