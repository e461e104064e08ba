"""The questions: read from RULER's files, or written by ourselves.

A row is one question, in the shape of the RULER files: task, index, length,
system, user, answer_prefix, outputs; beside these, `history` (the turns before
`user`, a list of messages) and `depth` (0 to 1, where a needle is). A row of
the suite `perplexity` has `token_ids` and `forced` instead of a question.

A Question is what a row will be made from: it has its key at once, so that
questions which are answered already cost nothing. Writing a row takes a
tokenizer, an object with count(row), the tokens of the whole prompt, and
encode(text), the ids of a plain text.
"""
import dataclasses
import glob
import hashlib
import json
import os
import random
import typing

import prose

# Tokens of an answer; RULER's length of a prompt includes them.
ANSWER_TOKENS = 64
# Rows made from the same seed by other versions of this file differ.
VERSION = 2

SYSTEM = "You are a helpful assistant."
COLOURS = ("amber", "azure", "bronze", "coral", "crimson", "emerald", "golden",
           "indigo", "ivory", "jade", "lavender", "maroon", "olive", "pearl",
           "purple", "ruby", "scarlet", "silver", "turquoise", "violet")
PLACES = ("lighthouse", "windmill", "chapel", "fountain", "gatehouse",
          "granary", "harbour", "hotel", "laboratory", "library", "mansion",
          "museum", "observatory", "pavilion", "station", "theatre", "tower",
          "vault", "warehouse", "workshop")


@dataclasses.dataclass(frozen=True)
class Question:
    suite: str
    task: str
    length: int
    index: int
    source: str  # tells other rows of the same task, length and index apart
    write: typing.Callable  # (tokenizer) -> row

    @property
    def name(self):
        return f"{self.suite}/{self.task}"

    def key(self):
        return {
            "suite": self.suite,
            "task": self.task,
            "length": self.length,
            "index": self.index,
            "source": self.source
        }


# --- RULER ------------------------------------------------------------------


def ruler(folder, count):
    """The first `count` rows of every file of the folder."""
    paths = sorted(glob.glob(os.path.join(folder, "*.jsonl")))
    if not paths:
        raise ValueError(f"no .jsonl files in {folder}")
    questions = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.strip()][:count]
        questions += [_ruler_question(line) for line in lines]
    # All tasks of one index before the next: what is there of an unfinished
    # run covers all tasks.
    return sorted(questions, key=lambda q: q.index)


def _ruler_question(line):
    row = json.loads(line)
    digest = hashlib.sha256(line.encode()).hexdigest()[:12]
    # Nominal: the files' own lengths differ from row to row.
    length = 1 << (row["length"] - 1).bit_length()
    return Question("ruler", row["task"], length, row["index"], digest,
                    lambda tokenizer: row)


# --- Fitting a text to a length ---------------------------------------------


def fit(length, tokenizer, write):
    """The greatest n, to within a few, for which write(n)'s prompt and answer
    have at most `length` tokens. n counts sentences of filler."""
    goal = length - ANSWER_TOKENS
    fits, size = 0, tokenizer.count(write(0))
    if size > goal:
        raise ValueError(f"nothing fits into {length} tokens: {size} needed")
    too_many = None
    per_sentence = 25.0
    for _ in range(20):
        step = max(1, int((goal - size) / per_sentence))
        n = fits + step
        if too_many is not None and n >= too_many:
            n = (fits + too_many) // 2
        if n == fits:
            break
        longer_size = tokenizer.count(write(n))
        per_sentence = max(1.0, (longer_size - size) / (n - fits))
        if longer_size > goal:
            too_many = n
        else:
            fits, size = n, longer_size
            if goal - size < per_sentence:
                break
    return fits


def place(filler, count, needles):
    """The text of `count` sentences of the filler, with each (depth, needle)
    put in behind the share `depth` of them."""
    parts = list(filler.sentences(count))
    for depth, fact in sorted(needles, reverse=True):
        parts.insert(round(depth * count), filler.enclose(fact))
    return "".join(parts).strip()


# --- Needles ----------------------------------------------------------------


def draw_keys(choose, count):
    pairs = choose.sample(range(len(COLOURS) * len(PLACES)), count)
    return [
        f"{COLOURS[pair % len(COLOURS)]} {PLACES[pair // len(COLOURS)]}"
        for pair in pairs
    ]


def draw_codes(choose, count):
    return [str(code) for code in choose.sample(range(1000000, 9999999), count)]


def needle(key, code):
    return f"The secret code of the {key} is {code}."


def ask(key):
    return f"What is the secret code of the {key}, according to the text?"


def begin_answer(key):
    return f"The secret code of the {key} is"


def row_of(task, length, index, user, answer_prefix, outputs, **more):
    return dict(more, task=task, index=index, length=length, system=SYSTEM,
                user=user, answer_prefix=answer_prefix, outputs=outputs)


def hidden_text(text):
    return ("Some secret codes are hidden in the following text. Read it "
            f"carefully.\n\n{text}\n\n")


def listed(names):
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


class NeedleTask:
    """Needles in a filler of a kind. `keys` places have `values` codes each;
    the codes of `asked` of the places are asked for."""

    def __init__(self, keys=1, values=1, asked=1, depth=None,
                 kind=prose.Prose):
        self._kind = kind
        self._keys = keys
        self._values = values
        self._asked = asked
        self._depth = depth  # of the one needle; None: anywhere

    def write(self, name, length, index, choose, tokenizer):
        keys = draw_keys(choose, self._keys)
        codes = draw_codes(choose, self._keys * self._values)
        of_key = {
            key: codes[i * self._values:(i + 1) * self._values]
            for i, key in enumerate(keys)
        }
        needles = [(self._draw_depth(choose), self._needle(key, code))
                   for key in keys
                   for code in of_key[key]]
        asked = keys[:self._asked]
        filler = self._kind(choose.random())
        more = {} if self._depth is None else {"depth": self._depth}

        def write(count):
            text = place(filler, count, needles)
            question, prefix = self._question(asked)
            return row_of(name, length, index, hidden_text(text) + question,
                          prefix,
                          [code for key in asked for code in of_key[key]],
                          **more)

        return write(fit(length, tokenizer, write))

    def _draw_depth(self, choose):
        return choose.random() if self._depth is None else self._depth

    def _needle(self, key, code):
        if self._values == 1:
            return needle(key, code)
        return f"One of the secret codes of the {key} is {code}."

    def _question(self, asked):
        if len(asked) > 1 or self._values > 1:
            names = listed([f"the {key}" for key in asked])
            return (f"What are all the secret codes of {names}, according to "
                    "the text?", f"The secret codes of {names} are:")
        return ask(asked[0]), begin_answer(asked[0])


def write_code_lines(name, length, index, choose, tokenizer):
    """Nothing but needles, one a line; one is asked for."""
    keys = draw_keys(choose, len(COLOURS) * len(PLACES))
    codes = draw_codes(choose, len(keys))
    place_of_asked = choose.random()

    def write(count):
        lines = [needle(key, code) for key, code in zip(keys, codes)]
        lines = lines[:max(1, count)]
        asked = int(place_of_asked * len(lines))
        return row_of(name, length, index,
                      hidden_text("\n".join(lines)) + ask(keys[asked]),
                      begin_answer(keys[asked]), [codes[asked]])

    return write(fit(length, tokenizer, write))


# --- Variables and frequent words -------------------------------------------

CHAIN_LENGTH = 5


def draw_names(choose, count, letters):
    names = set()
    while len(names) < count:
        names.add("".join(
            choose.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            for _ in range(letters)))
    return sorted(names, key=lambda name: choose.random())


def write_variables(name, length, index, choose, tokenizer):
    """A chain of assignments in prose, and one that leads elsewhere; asked
    are all variables of the chain."""
    names = draw_names(choose, 2 * CHAIN_LENGTH, 5)
    values = choose.sample(range(10000, 99999), 2)
    chains = [names[:CHAIN_LENGTH], names[CHAIN_LENGTH:]]
    needles = []
    for chain, value in zip(chains, values):
        depths = sorted(choose.random() for _ in chain)
        sources = [str(value)] + [f"of {name}" for name in chain[:-1]]
        needles += [(depth, f"The variable {variable} gets the value {source}.")
                    for depth, variable, source in zip(depths, chain, sources)]
    filler = prose.Prose(choose.random())

    def write(count):
        text = place(filler, count, needles)
        user = ("Assignments of variables are hidden in the following text. A "
                "variable gets a number or the value of another variable.\n\n"
                f"{text}\n\nWhich {CHAIN_LENGTH} variables have the value "
                f"{values[0]}?")
        return row_of(name, length, index, user,
                      f"The variables that have the value {values[0]} are",
                      chains[0])

    return write(fit(length, tokenizer, write))


def write_frequent_words(name, length, index, choose, tokenizer):
    """Invented words, the n-th of which comes n times less often than the
    first; asked are the three most frequent."""
    words = [word.lower() for word in draw_names(choose, 40, 6)]
    weights = [1.0 / (rank + 1) for rank in range(len(words))]
    order = choose.random()

    def write(count):
        total = 50 + 4 * count
        share = total / sum(weights)
        drawn = [
            word for word, weight in zip(words, weights)
            for _ in range(max(1, round(weight * share)))
        ]
        random.Random(order).shuffle(drawn)
        user = ("The following is a list of invented words. Some come often, "
                f"some come rarely.\n\n{' '.join(drawn)}\n\nWhich are the "
                "three most frequent words of the list?")
        return row_of(name, length, index, user,
                      "The three most frequent words of the list are",
                      words[:3])

    return write(fit(length, tokenizer, write))


OWN_TASKS = {
    "needle_single": NeedleTask().write,
    "needle_multikey": NeedleTask(keys=4).write,
    "needle_multiquery": NeedleTask(keys=4, asked=4).write,
    "needle_multivalue": NeedleTask(values=4).write,
    "needle_in_log": NeedleTask(keys=4, kind=prose.Log).write,
    "code_lines": write_code_lines,
    "variables": write_variables,
    "frequent_words": write_frequent_words,
}


def generated(suite, name, length, index, seed, write, text="one"):
    """A Question whose row write(name, length, index, choose, tokenizer)
    makes. Tasks of a suite with the same `text` choose alike: they ask
    different things about one document."""

    def write_row(tokenizer):
        choose = random.Random(f"{seed} {suite} {text} {length} {index}")
        return write(name, length, index, choose, tokenizer)

    return Question(suite, name, length, index, f"v{VERSION} seed {seed}",
                    write_row)


def own(lengths, count, seed):
    return [
        generated("own", name, length, index, seed, write, text=name)
        for length in lengths
        for index in range(count)
        for name, write in OWN_TASKS.items()
    ]


# --- Needle grid ------------------------------------------------------------


def grid(lengths, depths, count, seed):
    """One needle, at every depth of every length."""
    return [
        generated("grid", f"depth_{round(100 * depth):03d}", length, index,
                  seed,
                  NeedleTask(depth=depth).write)
        for index in range(count)
        for length in lengths
        for depth in depths
    ]


# --- Several turns ----------------------------------------------------------

NUM_TURNS = 4


class TurnTask:
    """A document with needles, and a conversation that asks for one a turn.

    The question of this row is that of turn `turn`; the turns before it have
    their right answers, so that every configuration sees the same prompt.
    After a change of topic, two turns about something else come in between."""

    def __init__(self, turn, changes_topic=False):
        self._turn = turn
        self._changes_topic = changes_topic

    def write(self, name, length, index, choose, tokenizer):
        keys = draw_keys(choose, NUM_TURNS)
        codes = draw_codes(choose, NUM_TURNS)
        needles = [(choose.random(), needle(key, code))
                   for key, code in zip(keys, codes)]
        filler = prose.Prose(choose.random())
        small_talk = _small_talk(choose.random())

        def write(count, turn, changes_topic):
            text = place(filler, count, needles)
            messages = []
            for i, (key, code) in enumerate(zip(keys[:turn], codes)):
                if changes_topic and i == turn - 1:
                    messages += small_talk
                messages += _turn(hidden_text(text) if i == 0 else "", key,
                                  code)
            user = messages[-2]["content"]
            return row_of(name, length, index, user,
                          begin_answer(keys[turn - 1]), [codes[turn - 1]],
                          history=messages[:-2])

        # All tasks have the document that the longest of them leaves room
        # for.
        count = fit(length, tokenizer,
                    lambda count: write(count, NUM_TURNS, True))
        return write(count, self._turn, self._changes_topic)


def _turn(before, key, code):
    return [{
        "role": "user",
        "content": before + ask(key)
    }, {
        "role": "assistant",
        "content": needle(key, code)
    }]


def _small_talk(seed):
    sentences = prose.Prose(seed).sentences(10)
    return [{
        "role": "user",
        "content": "Thank you. Now something else: tell me a short story."
    }, {
        "role": "assistant",
        "content": "".join(sentences).strip()
    }, {
        "role": "user",
        "content": "I like it. Do you have a title for the story?"
    }, {
        "role": "assistant",
        "content": "I would call it: A Letter to the Neighbours."
    }]


TURN_TASKS = {
    **{
        f"turn_{turn}": TurnTask(turn) for turn in range(1, NUM_TURNS + 1)
    },
    "topic_change": TurnTask(NUM_TURNS, changes_topic=True),
}


def turns(lengths, count, seed):
    return [
        generated("turns", name, length, index, seed, task.write)
        for length in lengths
        for index in range(count)
        for name, task in TURN_TASKS.items()
    ]


# --- Question first ---------------------------------------------------------


class QuestionFirstTask:
    """The question comes before the text, so that the prompt's last queries
    know nothing of it, unless the answer's beginning repeats it."""

    def __init__(self, repeats_key):
        self._repeats_key = repeats_key

    def write(self, name, length, index, choose, tokenizer):
        keys = draw_keys(choose, 4)
        codes = draw_codes(choose, 4)
        needles = [(choose.random(), needle(key, code))
                   for key, code in zip(keys, codes)]
        filler = prose.Prose(choose.random())
        prefix = "The secret code you asked for is"
        if self._repeats_key:
            prefix = begin_answer(keys[0])

        def write(count):
            text = place(filler, count, needles)
            user = (f"{ask(keys[0])} Here is the text:\n\n{text}\n\nThis was "
                    "the text. Now answer the question that I asked first.")
            return row_of(name, length, index, user, prefix, [codes[0]])

        return write(fit(length, tokenizer, write))


QUESTION_FIRST_TASKS = {
    "key_repeated": QuestionFirstTask(True),
    "key_not_repeated": QuestionFirstTask(False),
}


def question_first(lengths, count, seed):
    return [
        generated("question_first", name, length, index, seed, task.write)
        for length in lengths
        for index in range(count)
        for name, task in QUESTION_FIRST_TASKS.items()
    ]


# --- Perplexity -------------------------------------------------------------


def perplexity(length, forced, count, seed, path=None):
    """The loss of the last `forced` of `length` tokens: of prose of our own,
    or of `count` windows of a file, one behind the other."""
    if path is None:
        return [
            generated("perplexity", f"prose_{forced}", length, index, seed,
                      _prose_window(forced)) for index in range(count)
        ]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    name = os.path.splitext(os.path.basename(path))[0]
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return [
        Question("perplexity", f"{name}_{forced}", length, index, digest,
                 _file_window(text, length, index, forced))
        for index in range(count)
    ]


def _window(length, index, forced, ids):
    if len(ids) < length:
        raise ValueError(f"the text has {len(ids)} tokens of window {index}, "
                         f"not {length}")
    return {
        "index": index,
        "length": length,
        "token_ids": ids[:length],
        "forced": forced
    }


def _prose_window(forced):

    def write(name, length, index, choose, tokenizer):
        # A sentence has more than 8 tokens.
        text = "".join(
            prose.Prose(choose.random()).sentences(length // 8 + 1))
        return _window(length, index, forced, tokenizer.encode(text))

    return write


def _file_window(text, length, index, forced):

    def write(tokenizer):
        ids = tokenizer.encode(text)[index * length:]
        return _window(length, index, forced, ids)

    return write
