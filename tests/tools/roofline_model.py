"""What decode steps of Llama-3.1-8B's shape do to memory, added up from what
tests/bench/traffic_count.cc prints, and how long that takes on an H100."""
import collections
import json

# NVIDIA, "H100 Tensor Core GPU": HBM3 of the SXM module; 67 TFLOP/s in f32, two
# operations in each of a multiplication with addition.
HBM_BYTES_PER_SECOND = 3.35e12
F32_PER_SECOND = 67e12 / 2
# Integer operations of one of 132 processors, half as many as in f32 (CUDA C++
# Programming Guide, "Arithmetic Instructions"). A dimension of a token's signs
# takes about one for each query head.
PROCESSOR_INTS_PER_SECOND = F32_PER_SECOND / 2 / 132
# PCIe 5 with 16 lanes, one way, by copy engines.
LINK_BYTES_PER_SECOND = 50e9
SECONDS_PER_LAUNCH = 3e-6
# NVIDIA, "Getting Started with CUDA Graphs": kernels of 2.9 us that wait for
# each other take 3.4 us each in a graph.
SECONDS_IN_GRAPH = 0.5e-6

LAYERS = 32
HEADS = 32
KV_HEADS = 8
HEAD_DIM = 128
PARTS = {
    "full": ("dense", "full"),
    "sentence, mean": ("dense", "mean", "chosen"),
    "sentence, sign": ("dense", "sign", "chosen"),
}

# Of a step or a layer: launches and copies, bytes of device memory, bytes to
# the device and to the host over the link.
Traffic = collections.namedtuple(
    "Traffic", "launches copies hbm to_device to_host")


def added(traffics):
    return Traffic(*map(sum, zip(Traffic(0, 0, 0, 0, 0), *traffics)))


def scaled(traffic, factor):
    return Traffic(*(number * factor for number in traffic))


class Counts:
    """What traffic_count printed."""

    def __init__(self, lines):
        self.records = [json.loads(line) for line in lines]

    def about(self, what, **wanted):
        """The records that have the key `what`, and these values."""
        return [record for record in self.records if what in record and
                all(record[key] == value for key, value in wanted.items())]

    def choices(self, tokens):
        return self.about("choices", tokens=tokens)[0]

    def memory(self, policy, tokens):
        """{what: bytes} of a sequence."""
        record, = self.about("memory", memory=policy.split(", ")[-1],
                             tokens=tokens)
        return {key: value for key, value in record.items()
                if key not in ("memory", "tokens")}

    def weights(self):
        """Bytes of all matrices."""
        return self.about("weights")[0]["weights"]

    def of_part(self, part, tokens, rows, per):
        """{kernel: Traffic} of one layer or step. What sequences have of their
        own was counted for one, and they share nothing."""
        dense = part == "dense"
        kernels = {}
        for record in self.about("part", part=part, per=per,
                                 tokens=0 if dense else tokens,
                                 rows=rows if dense else 1):
            name = record["name"].split("<")[0]
            is_copy = name.startswith("copy ")
            per_step = (1 if dense else rows) / record["steps"]
            operations = record["launches"] / record["steps"]
            to_device = record["host_bytes_read"] * per_step
            to_host = record["host_bytes_written"] * per_step
            everything = (record["bytes_read"] +
                          record["bytes_written"]) * per_step
            kernels[name] = Traffic(
                0 if is_copy else operations, operations if is_copy else 0,
                everything - to_device - to_host, to_device, to_host)
        return kernels

    def arithmetic_seconds(self, part, tokens, rows):
        """Of a layer, by the shape: each entry with every dimension of all query
        heads; and for `sign` the tokens of a choice whose signs are looked at, on
        the processor that has it."""
        if part not in ("mean", "sign"):
            return 0
        choices = self.choices(tokens)
        seconds = (rows * choices["sentences_of_text"] * HEADS * HEAD_DIM /
                   F32_PER_SECOND)
        if part == "sign":
            seconds += (choices["tokens_refined"] * HEADS // KV_HEADS *
                        HEAD_DIM / PROCESSOR_INTS_PER_SECOND)
        return seconds


class Step:
    """A decode step of `rows` sequences of the same length."""

    def __init__(self, counts, policy, tokens, rows=1):
        of_parts = []
        self.layer_launches = 0
        self.device_seconds = 0
        self.product_bytes = 0
        for part in PARTS[policy]:
            of_layer = counts.of_part(part, tokens, rows, "layer")
            of_step = counts.of_part(part, tokens, rows, "step")
            if part == "dense":
                self.product_bytes = (LAYERS * of_layer["matmul"].hbm +
                                      of_step["matmul"].hbm)
            layer, once = added(of_layer.values()), added(of_step.values())
            of_parts += [scaled(layer, LAYERS), once]
            self.layer_launches += layer.launches
            self.device_seconds += LAYERS * max(
                layer.hbm / HBM_BYTES_PER_SECOND,
                counts.arithmetic_seconds(part, tokens, rows))
            self.device_seconds += once.hbm / HBM_BYTES_PER_SECOND
        self.traffic = added(of_parts)
        self.link_seconds = self.traffic.to_device / LINK_BYTES_PER_SECOND

    def seconds(self, per_operation, link_is_hidden=False):
        operations = self.traffic.launches + self.traffic.copies
        device = self.device_seconds + operations * per_operation
        if link_is_hidden:
            return max(device, self.link_seconds)
        return device + self.link_seconds
