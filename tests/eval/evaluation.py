"""Asks questions under configurations and keeps the answers.

Knows neither gRPC nor the command line: `connect` gives a client (client.py),
`bar` is a progress bar as tqdm's.
"""
import datetime
import statistics

import scoring

# A question that ends the server so often is left out.
ATTEMPTS = 2
# Tokens whose mean loss is one number of a result.
LOSS_STRETCH = 64


class RefusedError(Exception):
    """The server says that the request is wrong: repeating it is no use."""


class LostError(Exception):
    """The server is gone, or gave no answer in time."""


class Evaluation:
    """All configurations of one question, then the next question: the prefix
    cache computes a prompt once. What `store` has already is not asked."""

    def __init__(self, connect, store, bar, max_tokens):
        self._connect = connect
        self._store = store
        self._bar = bar
        self._max_tokens = max_tokens
        self._client = connect()
        self._scores = {}  # of this run, by configuration
        self.failures = []

    def run(self, questions, configurations):
        self._client.check_fields(configurations)
        for question in questions:
            self._ask(question, configurations)

    def _ask(self, question, configurations):
        missing = [
            c for c in configurations
            if self._store.get(self._key(question, c)) is None
        ]
        self._bar.update(len(configurations) - len(missing))
        if not missing:
            return
        self._bar.set_description(f"{question.name} {question.length} "
                                  f"#{question.index}")
        row = self._attempt(f"{question.name} #{question.index}",
                            lambda: question.write(self._client))
        for configuration in missing:
            if row is not None:
                self._ask_under(question, row, configuration)
            self._bar.update(1)

    def _ask_under(self, question, row, configuration):
        answer = self._attempt(
            f"{question.name} #{question.index} {configuration.name}",
            lambda: self._answer(row, configuration))
        if answer is None:
            return
        line = dict(self._key(question, configuration), **answer)
        if "depth" in row:
            line["depth"] = row["depth"]
        now = datetime.datetime.now(datetime.timezone.utc)
        line.update(configuration=configuration.name,
                    family=configuration.family,
                    budget=configuration.budget,
                    server=self._client.model.server_version,
                    time=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self._store.add(line)
        self._show(line)

    def _attempt(self, what, action):
        """What the action returns; None where it failed for good."""
        for _ in range(ATTEMPTS):
            try:
                return action()
            except (ValueError, RefusedError) as error:
                self._fail(f"{what}: {error}")
                return None
            except LostError as error:
                self._bar.write(f"{what}: {error}; connecting again")
                self._client.close()
                self._client = self._connect()
        self._fail(f"{what}: no answer in {ATTEMPTS} attempts")
        return None

    def _answer(self, row, configuration):
        if "forced" in row:
            return self._loss(row, configuration)
        answer = self._client.answer(row, configuration.fields,
                                     self._max_tokens)
        score = scoring.string_match_all(answer["prediction"], row["outputs"])
        return dict(answer, outputs=row["outputs"], score=score)

    def _loss(self, row, configuration):
        answer = self._client.loss(row, configuration.fields)
        losses = answer["losses"]
        stretches = [
            round(statistics.fmean(losses[i:i + LOSS_STRETCH]), 5)
            for i in range(0, len(losses), LOSS_STRETCH)
        ]
        return dict(answer, losses=stretches,
                    score=round(statistics.fmean(losses), 5))

    def _key(self, question, configuration):
        return dict(question.key(), model=self._client.model.name,
                    kv=configuration.fields, max_tokens=self._max_tokens)

    def _show(self, line):
        """The mean of this run's answers under the last configuration."""
        if "losses" in line:
            return
        scores = self._scores.setdefault(line["configuration"], [])
        scores.append(line["score"])
        self._bar.set_postfix_str(
            f"{line['configuration']} {statistics.fmean(scores):.1f}")

    def _fail(self, text):
        self.failures.append(text)
        self._bar.write(f"failed: {text}")

    def close(self):
        self._client.close()
