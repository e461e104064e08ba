#!/usr/bin/env python3
"""Breaks the CUDA engine in one place at a time and expects its tests to fail.

    mutations.py [--build DIR] [NAME...]      no name: all of them
    mutations.py --list

Works on a copy of the tree in DIR (default build/mutations). Each mutation is a
piece of text in one file and what it becomes; a text that is no longer there is
an error, so that the list stays true. Prints a line for each, and exits 1 when
one was not caught.
"""
import argparse
import dataclasses
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))


@dataclasses.dataclass
class Mutation:
    name: str
    what: str
    path: str
    old: str
    new: str
    target: str  # the test program
    tests: str  # --gtest_filter


MUTATIONS = [
    Mutation(
        "barrier", "__syncthreads left out of a sum over a block",
        "kernels/cuda/device.h",
        "  __syncthreads();\n  return WarpSum(", "  return WarpSum(",
        "cuda_backend_test", "*RowOperationsTest.NormsLikeTheCpu*"),
    Mutation(
        "out-of-bounds", "a row is written one element too far",
        "kernels/cuda/row_kernels.cu",
        "i < end;\n       i += kThreads * kColumns",
        "i <= end;\n       i += kThreads * kColumns",
        "cuda_backend_test", "*RowOperationsTest.*"),
    Mutation(
        "unaligned-arrays", "arrays begin where a copy of any size ended",
        "kernels/cuda/staging_ring.cc",
        "used_bytes_ += StagedArrays::RoundUp(size_bytes);",
        "used_bytes_ += size_bytes;",
        "cuda_backend_test", "*KvOperationsTest.ReadsKeys*"),
    Mutation(
        "ring-reused-early", "a segment of the ring is filled before its "
        "readers are done", "kernels/cuda/staging_ring.cc",
        "  SKV_RETURN_IF_ERROR(streams_.Await(done_[next]));\n", "",
        "cuda_backend_test", "*DeviceMemoryTest.ArraysOfOperations*"),
    Mutation(
        "read-before-done", "the host reads a copy that it has not waited for",
        "kernels/cuda/staging_ring.cc",
        "    SKV_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize("
        "streams_.compute()));\n", "",
        "cuda_backend_test", "*DeviceMemoryTest.CopiesOfAnySize*"),
    Mutation(
        "host-touches-device", "the host reads device memory",
        "kernels/cuda/staging_ring.cc",
        "    std::memcpy(host + done, room.host(), piece);",
        "    std::memcpy(host + done, device + done, piece);",
        "cuda_backend_test", "*DeviceMemoryTest.CopiesOfAnySize*"),
    Mutation(
        "event-wait", "streams do not wait for events",
        "kernels/cuda/cuda_streams.cc",
        "  if (event.stream == stream) return absl::OkStatus();\n"
        "  SKV_ASSIGN",
        "  if (event.number > 0) return absl::OkStatus();\n  SKV_ASSIGN",
        "simulated_daemon_test", "SimulatedDaemon.*"),
    Mutation(
        "frame-read-before-filled", "an operation does not wait for the copies "
        "that fill its frames", "cache/frame_copies.cc",
        "                   {DeviceStream::kToDevice, compute_after_device_}));",
        "                   {DeviceStream::kToDevice, 0}));",
        "simulated_daemon_test", "SimulatedDaemon.*"),
    Mutation(
        "slot-reused-early", "a copy into a frame does not wait for the "
        "operations that read it", "cache/frame_copies.cc",
        "  SKV_RETURN_IF_ERROR(device_.Wait(stream, computed));\n",
        "  if (stream == DeviceStream::kToHost) {\n"
        "    SKV_RETURN_IF_ERROR(device_.Wait(stream, computed));\n  }\n",
        "simulated_daemon_test", "SimulatedDaemon.*"),
    Mutation(
        "saved-before-written", "a page is saved before it is computed",
        "cache/frame_copies.cc",
        "  SKV_RETURN_IF_ERROR(device_.Wait(stream, computed));\n",
        "  if (stream == DeviceStream::kToDevice) {\n"
        "    SKV_RETURN_IF_ERROR(device_.Wait(stream, computed));\n  }\n",
        "simulated_daemon_test", "SimulatedDaemon.*"),
    Mutation(
        "page-read-before-saved", "a page of the pool is fetched while it is "
        "still on its way there", "cache/frame_copies.cc",
        "  fetch_after_host_ = std::max({fetch_after_host_, "
        "of_frame(what.frame).saved,\n"
        "                                of_page(what.page).written});\n", "",
        "simulated_daemon_test", "SimulatedDaemon.*"),
    Mutation(
        "error-dropped", "a copy that failed is not told of",
        "kernels/cuda/cuda_streams.cc",
        "      SKV_RETURN_IF_CUDA_ERROR(\n"
        "          cudaMemcpyAsync(to, from, size, kind, handle(stream)));",
        "      (void)cudaMemcpyAsync(to, from, size, kind, handle(stream));",
        "cuda_backend_test", "*FaultsTest.*"),
    Mutation(
        "block-reused-early", "a buffer's memory is handed on while copies use "
        "it", "kernels/cuda/device_arena.cc",
        "    if (!has_passed) return false;\n", "    (void)has_passed;\n",
        "cuda_memory_test", "DeviceArenaTest.*"),
    Mutation(
        "no-wait-for-block", "operations do not wait for the copies of a block "
        "that they are given early", "kernels/cuda/device_arena.cc",
        "    SKV_RETURN_IF_ERROR(streams_.Wait(DeviceStream::kCompute, event));"
        "\n", "    (void)event;\n",
        "cuda_memory_test", "DeviceArenaTest.*"),
    Mutation(
        "copy-over-pieces", "a copy goes from one piece of pinned memory into "
        "the next", "kernels/cuda/pinned_pool.cc",
        "  if (above == blocks_.begin()) return SIZE_MAX;",
        "  if (above != blocks_.end() || above == blocks_.end()) return "
        "SIZE_MAX;",
        "cuda_memory_test", "PinnedPoolTest.NoCopyTouchesTwoPieces"),
    Mutation(
        "scores-read-early", "sentences are ranked while other threads still "
        "make scores", "kernels/cuda/choose_kernels.cu",
        "scoring.exponents);\n    __syncthreads();\n", "scoring.exponents);\n",
        "cuda_choice_test", "CudaScoreRows.*"),
    Mutation(
        "only-short-texts", "blocks end with what all of them take at once",
        "kernels/cuda/score_rows_kernels.cu",
        "int64_t{gridDim.x} * kVectorThreads,", "scoring.num_entries,",
        "cuda_choice_test", "CudaScoreRows.*"),
    Mutation(
        "stale-graph", "a graph is launched although what it points to has "
        "moved", "kernels/cuda/step_graphs.cc",
        "graph.executable != nullptr && graph.calls == calls_;",
        "graph.executable != nullptr;",
        "cuda_backend_test", "*StepOperationsTest.*"),
    Mutation(
        "old-arguments", "a graph is launched with the host arrays of the step "
        "before", "kernels/cuda/step_graphs.cc",
        "  SKV_RETURN_IF_ERROR(ring_.CopyFromHost(arguments_there_, "
        "arguments_.data(),\n"
        "                                         arguments_.size()));\n",
        "  if (!is_known) {\n"
        "    SKV_RETURN_IF_ERROR(ring_.CopyFromHost(\n"
        "        arguments_there_, arguments_.data(), arguments_.size()));\n"
        "  }\n",
        "cuda_backend_test", "*StepOperationsTest.*"),
    Mutation(
        "filling-row-chooses", "rows that fill a graph up choose as the last "
        "one does", "kernels/cuda/cuda_chooser.cc",
        "  choosing_rows_.resize(num_rows);",
        "  choosing_rows_.resize(num_rows, "
        "ChoosingRow(choosing_rows_.back()));",
        "device_choosing_test", "StepGraphs.GiveWhatStepsWithoutGive"),
    Mutation(
        "filling-row-stores", "rows that fill a graph up write to the first "
        "page", "kernels/cuda/kv_runner.cc",
        "RowSlot{.row = -1}", "RowSlot{.row = 0}",
        "cuda_backend_test", "*StepOperationsTest.*"),
    Mutation(
        "no-join-of-gathering", "attention in a graph does not wait for what is "
        "gathered", "kernels/cuda/cuda_chooser.cc",
        "  return graphs.Order(DeviceStream::kToDevice, "
        "DeviceStream::kCompute);",
        "  return graphs.is_recording() && layer.layer == 0\n"
        "             ? absl::OkStatus()\n"
        "             : graphs.Order(DeviceStream::kToDevice,\n"
        "                            DeviceStream::kCompute);",
        "device_choosing_test", "StepGraphs.GiveWhatStepsWithoutGive"),
    Mutation(
        "capture-not-joined", "a capture that fails is ended with a stream that "
        "is not joined", "kernels/cuda/step_graphs.cc",
        "  if (has_branch_) {\n", "  if (has_branch_ && issued.ok()) {\n",
        "device_choosing_test", "*GraphFaults*"),
    Mutation(
        "no-entries-behind", "sentences that close in a step that is prepared "
        "get no entries", "cache/sentence_policy.cc",
        "  if (prepared_.empty()) return absl::OkStatus();\n",
        "  if (prepared_.empty() || device_.EndStep(memory, &totals_).ok()) {\n"
        "    return absl::OkStatus();\n  }\n",
        "device_choosing_test", "DeviceChoosing.FindsEntriesThatWereMoved"),
    Mutation(
        "layer-not-saved", "a layer of what a prepared step wrote does not come "
        "to the pool", "cache/device_kv_memory.cc",
        "  SKV_RETURN_IF_ERROR(copies_.Save(written));\n"
        "  for (int64_t layer = 0;",
        "  written.erase(written.begin());\n"
        "  SKV_RETURN_IF_ERROR(copies_.Save(written));\n"
        "  for (int64_t layer = 0;",
        "device_choosing_test", "*DeviceSchedules*"),
    Mutation(
        "index-moved-wrong", "entries of an index that grows go to wrong "
        "places", "cache/sentence_index.cc",
        ".destination_stride = capacity * unit_bytes_,",
        ".destination_stride = stride(),",
        "device_choosing_test", "DeviceChoosing.FindsEntriesThatWereMoved"),
    Mutation(
        "event-lost", "an event is not given back when recording fails",
        "kernels/cuda/cuda_streams.cc",
        "    idle_.push_back(event);\n    return CudaStatus(error, "
        "\"cudaEventRecord\");",
        "    return CudaStatus(error, \"cudaEventRecord\");",
        "cuda_backend_test", "*FaultsTest.*"),
]


def run(command, log, **options):
    with open(log, "ab") as output:
        return subprocess.run(command, stdout=output, stderr=output,
                              check=False, **options).returncode


class Copy:
    """The tree that is broken and mended, and its build."""

    def __init__(self, folder):
        self.tree = os.path.join(folder, "tree")
        self.build = os.path.join(folder, "build")
        self.log = os.path.join(folder, "log")
        shutil.rmtree(self.tree, ignore_errors=True)
        listing = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard"],
            stdout=subprocess.PIPE, check=True).stdout
        for name in filter(None, listing.decode().split("\0")):
            path = os.path.join(self.tree, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copy2(os.path.join(ROOT, name), path)
        if run(["cmake", "--preset", "release", "-B", self.build,
                "-DSENTENCEKV_BUILD_TESTS=ON"], self.log, cwd=self.tree) != 0:
            sys.exit(f"mutations.py: cmake failed, see {self.log}")

    def fails(self, mutation):
        """Whether the tests fail; the end of the work when they don't build."""
        if run(["cmake", "--build", self.build, "--target", mutation.target],
               self.log) != 0:
            sys.exit(f"mutations.py: {mutation.name} does not build, "
                     f"see {self.log}")
        program = os.path.join(self.build, "bin", mutation.target)
        return run([program, f"--gtest_filter={mutation.tests}"], self.log,
                   timeout=900) != 0

    def is_caught(self, mutation):
        path = os.path.join(self.tree, mutation.path)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text.count(mutation.old) != 1:
            sys.exit(f"mutations.py: {mutation.name}: its text is "
                     f"{text.count(mutation.old)} times in {mutation.path}")
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace(mutation.old, mutation.new))
            return self.fails(mutation)
        finally:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build",
                        default=os.path.join(ROOT, "build", "mutations"))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    unknown = set(options.names) - {m.name for m in MUTATIONS}
    if unknown:
        parser.error(f"no mutation is called {', '.join(sorted(unknown))}")
    chosen = [m for m in MUTATIONS
              if not options.names or m.name in options.names]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name:26} {mutation.what}")
        return 0
    copy = Copy(options.build)
    for target, tests in sorted({(m.target, m.tests) for m in chosen}):
        whole = Mutation("nothing broken", "", "", "", "", target, tests)
        if copy.fails(whole):
            sys.exit(f"mutations.py: {target} {tests} fails by itself, "
                     f"see {copy.log}")
    num_missed = 0
    for mutation in chosen:
        caught = copy.is_caught(mutation)
        num_missed += not caught
        print(f"{'caught' if caught else 'MISSED':7} {mutation.name}: "
              f"{mutation.what}", flush=True)
    return 1 if num_missed else 0


if __name__ == "__main__":
    sys.exit(main())
