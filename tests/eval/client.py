"""The server under evaluation: starts it, and asks it over gRPC."""
import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
import time

import grpc
import grpc_status.rpc_status
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import proto_reflection_descriptor_database
from grpc_tools import protoc

from evaluation import LostError, RefusedError

ROOT = os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROTO = "sentencekv/v1/sentencekv.proto"
START_SECONDS = 120
STOP_SECONDS = 60
# A prompt of 8,000 tokens with a log-probability for each.
MESSAGE_BYTES = 64 << 20


def load_stubs(folder):
    """Generates the messages and the stub from the .proto; (messages, stub
    class)."""
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(ROOT, "proto")
    failed = protoc.main([
        "protoc", f"-I{source}", f"--python_out={folder}",
        f"--grpc_python_out={folder}", PROTO
    ])
    if failed:
        raise RuntimeError(f"protoc cannot translate {PROTO}")
    sys.path.insert(0, folder)
    messages = importlib.import_module("sentencekv.v1.sentencekv_pb2")
    services = importlib.import_module("sentencekv.v1.sentencekv_pb2_grpc")
    return messages, services.SentenceKvStub


class Daemon:
    """A sentencekv-server of our own, on a free port of this machine."""

    def __init__(self, program, model, flags, log_path):
        self._command = [
            program, "--model", model, "--listen", "127.0.0.1:0",
            "--metrics_listen", ""
        ] + flags
        self._log_path = log_path
        self._process = None

    def restart(self):
        """Returns the address, once a new daemon listens."""
        self.stop()
        with tempfile.TemporaryDirectory() as folder:
            port_file = os.path.join(folder, "ports")
            with open(self._log_path, "ab") as log:
                self._process = subprocess.Popen(
                    self._command + ["--port_file", port_file], stdout=log,
                    stderr=log)
            deadline = time.monotonic() + START_SECONDS
            while not os.path.exists(port_file):
                if not self.is_running() or time.monotonic() > deadline:
                    self.stop()
                    raise LostError("the daemon did not start, see "
                                    f"{self._log_path}")
                time.sleep(0.05)
            with open(port_file, encoding="ascii") as lines:
                ports = dict(line.strip().split("=") for line in lines)
            return f"127.0.0.1:{ports['grpc_port']}"

    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def stop(self):
        if not self.is_running():
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Client:
    """Asks one server. Also the tokenizer that tasks.py wants."""

    def __init__(self, address, stubs, timeout):
        self._messages, stub_class = stubs
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[("grpc.max_receive_message_length", MESSAGE_BYTES),
                     ("grpc.max_send_message_length", MESSAGE_BYTES)])
        self._stub = stub_class(self._channel)
        self.model = self._call(self._stub.GetModel,
                                self._messages.GetModelRequest(),
                                wait_for_ready=True, timeout=START_SECONDS)

    def close(self):
        self._channel.close()

    def check_fields(self, configurations):
        """Raises RefusedError where a configuration needs a field of KvParams
        that the .proto of this tree or the server does not know. A server
        would ignore such a field, and its answers would mean nothing."""
        here = set(self._messages.KvParams.DESCRIPTOR.fields_by_name)
        there = self._fields_of_server()
        for configuration in configurations:
            for field in configuration.fields:
                if field not in here or field not in there:
                    where = "the server" if field in here else PROTO
                    raise RefusedError(
                        f"configuration {configuration.name} needs the field "
                        f"KvParams.{field}, which {where} does not have")

    def _fields_of_server(self):
        database = proto_reflection_descriptor_database
        pool = descriptor_pool.DescriptorPool(
            database.ProtoReflectionDescriptorDatabase(self._channel))
        try:
            message = pool.FindMessageTypeByName("sentencekv.v1.KvParams")
        except KeyError as error:
            raise RefusedError("the server does not say which fields it knows "
                               "(--no_reflection?)") from error
        return set(message.fields_by_name)

    def count(self, row):
        """Tokens of a row's prompt."""
        request = self._messages.TokenizeRequest(chat=self._chat(row))
        return len(self._call(self._stub.Tokenize, request).token_ids)

    def encode(self, text):
        """Token ids of a plain text, in pieces that one message can hold: ends
        of lines are where they are cut."""
        ids = []
        piece = ""
        for line in text.splitlines(keepends=True):
            if piece and len(piece) + len(line) > 100000:
                ids += self._encode_piece(piece, not ids)
                piece = ""
            piece += line
        return ids + self._encode_piece(piece, not ids)

    def _encode_piece(self, text, add_bos):
        request = self._messages.TokenizeRequest(text=text, add_bos=add_bos)
        return list(self._call(self._stub.Tokenize, request).token_ids)

    def answer(self, row, fields, max_tokens):
        """What the model says to a row, greedily; a dictionary."""
        request = self._messages.GenerateRequest(chat=self._chat(row))
        request.stop.max_tokens = max_tokens
        self._set(request, fields)
        answer = self._generate(request)
        del answer["prompt_losses"]
        return answer

    def loss(self, row, fields):
        """Losses of the last tokens of a row of the suite perplexity, in
        order, as `losses` of a dictionary."""
        request = self._messages.GenerateRequest()
        request.token_ids.ids.extend(row["token_ids"])
        request.stop.max_tokens = 1
        request.output.prompt_logprobs = True
        # `full` reads the same however its tokens come in.
        if fields["policy"] != "full":
            fields = dict(fields, forced_tokens=row["forced"])
        self._set(request, fields)
        answer = self._generate(request)
        losses = answer.pop("prompt_losses")[-row["forced"]:]
        if len(losses) != row["forced"]:
            raise RefusedError(f"{row['forced']} log-probabilities wanted, "
                               f"{len(losses)} came")
        del answer["prediction"]
        return dict(answer, losses=losses)

    def _chat(self, row):
        messages = [{"role": "system", "content": row["system"]}]
        messages += row.get("history", [])
        messages.append({"role": "user", "content": row["user"]})
        return self._messages.ChatInput(
            messages=[self._messages.ChatMessage(**m) for m in messages],
            assistant_prefix=row["answer_prefix"])

    def _set(self, request, fields):
        request.sampling.temperature = 0
        for field, value in fields.items():
            try:
                setattr(request.kv, field, value)
            except (AttributeError, TypeError, ValueError) as error:
                raise RefusedError(
                    f"KvParams.{field} cannot be {value!r}: {error}") from error

    def _generate(self, request):
        text = []
        losses = []
        usage = None
        begin = time.monotonic()
        with _told_errors():
            for message in self._stub.Generate(request, timeout=self._timeout):
                text.append(message.text)
                losses += [-p.logprob for p in message.prompt_logprobs]
                if message.HasField("finish"):
                    usage = message.finish.usage
        if usage is None:
            raise LostError("the answer ended without its last message")
        return {
            "prediction": "".join(text),
            "prompt_losses": losses,
            "seconds": round(time.monotonic() - begin, 3),
            "prefill_seconds": round(usage.prefill_seconds, 3),
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "generated_tokens": usage.generated_tokens,
            "tokens_attended_per_step": round(usage.tokens_attended_per_step,
                                              1),
            "sentences_indexed": usage.sentences_indexed,
            "bytes_streamed": usage.bytes_streamed,
        }

    def _call(self, method, request, timeout=60, **more):
        with _told_errors():
            return method(request, timeout=timeout, **more)


@contextlib.contextmanager
def _told_errors():
    """Turns gRPC's errors into ours, with the fields that were wrong."""
    wrong = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
             grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED)
    try:
        yield
    except grpc.RpcError as error:
        text = f"{error.code().name}: {error.details()}{_wrong_fields(error)}"
        if error.code() in wrong:
            raise RefusedError(text) from error
        raise LostError(text) from error


def _wrong_fields(error):
    status = grpc_status.rpc_status.from_call(error)
    found = ""
    for detail in status.details if status is not None else []:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            for violation in request.field_violations:
                found += f"; {violation.field}: {violation.description}"
    return found
