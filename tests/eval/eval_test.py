#!/usr/bin/env python3
"""Tests of what needs neither a server nor Python packages: scores, texts,
configurations, results that are there already, and the report."""
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import configurations
import evaluation
import prose
import report
import results
import scoring
import tasks


class WordTokenizer:
    """A token for every four characters or less of a word."""

    def encode(self, text):
        return [
            hash(word[i:i + 4]) & 0xffff
            for word in text.split()
            for i in range(0, len(word), 4)
        ]

    def count(self, row):
        texts = [row["system"], row["user"], row["answer_prefix"]]
        texts += [message["content"] for message in row.get("history", [])]
        return sum(len(self.encode(text)) for text in texts)


TOKENIZER = WordTokenizer()


def document_of(row):
    """The sentences between the instructions and the question of a row."""
    first = row["history"][0]["content"] if row.get("history") else row["user"]
    return first.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]


class ScoringTest(unittest.TestCase):

    def test_match_is_the_share_of_outputs_found_in_any_case(self):
        self.assertEqual(scoring.string_match_all("It is FRANCE.", ["France"]),
                         100)
        self.assertEqual(scoring.string_match_all("1234567", ["234"]), 100)
        self.assertEqual(
            scoring.string_match_all("a b", ["A", "b", "c", "d"]), 50)
        self.assertEqual(scoring.string_match_all("", ["x"]), 0)
        # Outputs that are equal count each.
        self.assertEqual(
            scoring.string_match_all("yes", ["yes", "yes", "no", "no"]), 50)

    def test_interval_covers_the_mean_as_often_as_it_says(self):
        draw = random.Random(7)
        covered = 0
        for i in range(100):
            values = [draw.gauss(3, 2) for _ in range(40)]
            low, high = scoring.bootstrap_interval(values, 200, seed=i)
            covered += low <= 3 <= high
        self.assertGreaterEqual(covered, 86)
        self.assertLess(covered, 100)

    def test_interval_of_equal_values_is_a_point_and_of_one_is_none(self):
        self.assertEqual(scoring.bootstrap_interval([2.0] * 9), (2.0, 2.0))
        self.assertIsNone(scoring.bootstrap_interval([2.0]))
        self.assertIsNone(scoring.bootstrap_interval([]))


class ProseTest(unittest.TestCase):

    def test_is_made_of_several_hundred_patterns(self):
        self.assertGreater(len(prose.PATTERNS), 300)
        sentences = prose.Prose(1).sentences(500)
        self.assertGreater(len(set(sentences)), 490)

    def test_depends_on_the_seed_alone(self):
        first = prose.Prose("a").sentences(50)
        self.assertEqual(prose.Prose("a").sentences(50), first)
        self.assertNotEqual(prose.Prose("b").sentences(50), first)
        grown = prose.Prose("a")
        grown.sentences(7)
        self.assertEqual(grown.sentences(50), first)

    def test_is_the_same_in_every_process(self):
        # Nothing depends on the order of sets, which differs by process.
        program = ("import prose; print(repr(''.join("
                   "prose.Prose('a').sentences(50))))")
        folder = os.path.dirname(os.path.abspath(__file__))
        printed = [
            subprocess.run([sys.executable, "-c", program], cwd=folder,
                           env=dict(os.environ, PYTHONHASHSEED=seed),
                           check=True, stdout=subprocess.PIPE).stdout
            for seed in ("1", "2")
        ]
        self.assertEqual(printed[0], printed[1])

    def test_sentences_are_complete(self):
        for sentence in prose.Prose(3).sentences(300):
            self.assertRegex(sentence, r"^[A-Z].*[.!]( |\n\n)$")
            self.assertNotRegex(sentence, r"[{}]|\d{5}")


class LogTest(unittest.TestCase):

    def test_lines_depend_on_the_seed_alone_and_end_without_a_stop(self):
        lines = prose.Log(1).sentences(300)
        self.assertEqual(prose.Log(1).sentences(300)[:20], lines[:20])
        self.assertNotEqual(prose.Log(2).sentences(20), lines[:20])
        for line in lines + [prose.Log.enclose("The code is 1.")]:
            self.assertRegex(line, r"^\d\d:\d\d:\d\d [A-Z]+ .*[^.]\n$")
            self.assertNotRegex(line, r"[{}]|\d{5}")


class TasksTest(unittest.TestCase):

    def rows(self, length=2000, count=2, seed=1):
        questions = (tasks.own([length], count, seed) +
                     tasks.turns([length], count, seed) +
                     tasks.question_first([length], count, seed) +
                     tasks.grid([length], [0.0, 0.5, 1.0], count, seed))
        return [(q.name, q.write(TOKENIZER)) for q in questions]

    def test_rows_depend_on_the_seed_alone(self):
        self.assertEqual(self.rows(1000, 1), self.rows(1000, 1))
        for (name, row), (_, other) in zip(self.rows(1000, 1),
                                           self.rows(1000, 1, seed=2)):
            self.assertNotEqual(row["user"], other["user"], name)

    def test_rows_have_the_shape_of_ruler_files(self):
        for name, row in self.rows(count=1):
            self.assertLessEqual({
                "task", "index", "length", "system", "user", "answer_prefix",
                "outputs"
            }, set(row), name)
            self.assertEqual(json.loads(json.dumps(row)), row, name)

    def test_lengths_are_near_the_goal_and_never_beyond(self):
        for name, row in self.rows(4000, 1):
            size = TOKENIZER.count(row) + tasks.ANSWER_TOKENS
            self.assertLessEqual(size, 4000, name)
            if not name.startswith("turns/turn_"):
                self.assertGreater(size, 3900, name)

    def test_too_short_a_length_is_refused(self):
        with self.assertRaisesRegex(ValueError, "nothing fits into 80"):
            tasks.own([80], 1, 1)[0].write(TOKENIZER)

    def test_texts_hold_every_answer_once_and_outside_the_question(self):
        for name, row in self.rows():
            if "needle" in name or "turns" in name or "depth" in name:
                text = document_of(row)
                for output in row["outputs"]:
                    self.assertEqual(text.count(output), 1, name)
                    self.assertNotIn(output, row["answer_prefix"], name)
                    if row.get("history"):
                        self.assertNotIn(output, row["user"], name)

    def test_needle_is_exactly_at_its_depth(self):
        for depth in (0.0, 0.1, 0.25, 0.5, 1.0):
            question, = tasks.grid([1500], [depth], 1, 1)
            row = question.write(TOKENIZER)
            self.assertEqual(row["depth"], depth)
            text = document_of(row)
            before = text[:text.index("The secret code")]
            ends = re.compile(r"[.!](?: |\n\n|$)")
            total = len(ends.findall(text)) - 1
            self.assertEqual(len(ends.findall(before)), round(depth * total))

    def test_depths_of_a_length_share_text_and_needle(self):
        texts = [
            document_of(q.write(TOKENIZER)).split()
            for q in tasks.grid([1500], [0.0, 0.5, 1.0], 1, 1)
        ]
        self.assertEqual(sorted(texts[0]), sorted(texts[1]))
        self.assertEqual(sorted(texts[0]), sorted(texts[2]))
        self.assertNotEqual(texts[0], texts[1])

    def test_several_needles_are_where_place_says(self):
        filler = mock.Mock()
        filler.sentences = lambda count: [f"S{i}. " for i in range(count)]
        filler.enclose = lambda fact: fact + " "
        self.assertEqual(
            tasks.place(filler, 10, [(0.5, "B."), (0.0, "A."), (1.0, "C.")]),
            "A. S0. S1. S2. S3. S4. B. S5. S6. S7. S8. S9. C.")

    def test_turns_share_a_document_and_have_right_answers_before(self):
        rows = {
            q.task: q.write(TOKENIZER)
            for q in tasks.turns([1500], 1, 1)
        }
        self.assertEqual([len(rows[f"turn_{t}"]["history"]) for t in
                          (1, 2, 3, 4)], [0, 2, 4, 6])
        self.assertEqual(len(rows["topic_change"]["history"]), 10)
        documents = {document_of(row) for row in rows.values()}
        self.assertEqual(len(documents), 1)
        for turn in (1, 2, 3):
            self.assertIn(rows[f"turn_{turn}"]["outputs"][0],
                          rows["turn_4"]["history"][2 * turn - 1]["content"])
        self.assertEqual(rows["topic_change"]["outputs"],
                         rows["turn_4"]["outputs"])

    def test_question_first_comes_before_the_text(self):
        repeated, other = [
            q.write(TOKENIZER) for q in tasks.question_first([1500], 1, 1)
        ]
        key = re.match(r"What is the secret code of the (\w+ \w+)",
                       repeated["user"])[1]
        self.assertIn(key, repeated["answer_prefix"])
        self.assertNotIn(key, other["answer_prefix"])
        self.assertIn(f"the {key} is {other['outputs'][0]}", other["user"])
        self.assertNotIn(key, other["user"].rsplit("\n\n", 1)[1])

    def test_variables_of_the_answer_form_a_chain(self):
        row = next(row for name, row in self.rows(count=1)
                   if name == "own/variables")
        value = re.search(r"have the value (\d+)\?", row["user"])[1]
        held = {}
        assignment = r"variable (\w+) gets the value (?:of )?(\w+)\."
        for name, source in re.findall(assignment, row["user"]):
            held[name] = held.get(source, source)
        self.assertEqual(
            sorted(name for name, v in held.items() if v == value),
            sorted(row["outputs"]))
        self.assertEqual(len(held), 2 * tasks.CHAIN_LENGTH)

    def test_frequent_words_are_the_most_frequent(self):
        row = next(row for name, row in self.rows(count=1)
                   if name == "own/frequent_words")
        words = document_of(row).split()
        by_count = sorted(set(words), key=words.count, reverse=True)
        self.assertEqual(by_count[:3], row["outputs"])
        self.assertGreater(words.count(by_count[2]), words.count(by_count[3]))

    def test_ruler_rows_are_read_as_they_are_index_by_index(self):
        with tempfile.TemporaryDirectory() as folder:
            for task in ("vt", "fwe"):
                with open(os.path.join(folder, task + ".jsonl"), "w",
                          encoding="utf-8") as file:
                    for index in range(3):
                        file.write(json.dumps({
                            "task": task, "index": index, "length": 3900,
                            "system": "s", "user": f"u{index}",
                            "answer_prefix": " p", "outputs": ["x"]
                        }) + "\n")
            questions = tasks.ruler(folder, 2)
            self.assertEqual([(q.task, q.index, q.length) for q in questions],
                             [("fwe", 0, 4096), ("vt", 0, 4096),
                              ("fwe", 1, 4096), ("vt", 1, 4096)])
            self.assertEqual(questions[2].write(None)["user"], "u1")
            self.assertEqual(len({q.source for q in questions}), 4)
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(ValueError, "no .jsonl files"):
                tasks.ruler(folder, 2)

    def test_perplexity_windows_are_exact_and_do_not_overlap(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "some.txt")
            with open(path, "w", encoding="utf-8") as file:
                file.write(" ".join(f"w{i}" for i in range(250)))
            first, second, third = tasks.perplexity(100, 20, 3, 1, path)
            rows = [first.write(TOKENIZER), second.write(TOKENIZER)]
            ids = TOKENIZER.encode(" ".join(f"w{i}" for i in range(250)))
            self.assertEqual(rows[0]["token_ids"] + rows[1]["token_ids"],
                             ids[:200])
            self.assertEqual(rows[0]["forced"], 20)
            self.assertEqual(first.task, "some_20")
            with self.assertRaisesRegex(ValueError, "window 2"):
                third.write(TOKENIZER)
        own, = tasks.perplexity(3000, 64, 1, 1)
        self.assertEqual(len(own.write(TOKENIZER)["token_ids"]), 3000)


class ConfigurationsTest(unittest.TestCase):

    def test_all_are_there_full_first(self):
        found = configurations.all_configurations()
        self.assertEqual(found[0].name, "full")
        self.assertEqual(len({c.name for c in found}), 1 + 4 * (9 + 2 + 1))
        self.assertEqual(len({json.dumps(c.fields) for c in found}),
                         len(found))

    def test_recent_reads_as_much_as_the_budget_allows(self):
        recent, = configurations.select(configurations.all_configurations(),
                                        ["recent@512"])
        self.assertEqual(recent.fields["recent_tokens"], 64 + 512)
        self.assertEqual(recent.fields["token_budget"], 1)

    def test_patterns_select_by_name_and_family(self):
        found = configurations.all_configurations([256, 512])
        select = lambda *patterns: [
            c.name for c in configurations.select(found, patterns)
        ]
        self.assertEqual(select("recent", "full"),
                         ["full", "recent@256", "recent@512"])
        self.assertEqual(select("sentence-sign*@512"),
                         ["sentence-sign@512", "sentence-sign-prior@512",
                          "sentence-sign-heads@512"])
        with self.assertRaisesRegex(ValueError, "called sentense"):
            select("full", "sentense")

    def test_added_families_have_the_fields_they_name(self):
        added = configurations.all_configurations(
            [512], ["lag:lag_one=true,query_blend=0.5,index_kind=sign"])[-1]
        self.assertEqual(added.name, "lag@512")
        self.assertEqual(added.fields, {
            "policy": "sentence", "token_budget": 512, "dense_tokens": 0,
            "lag_one": True, "query_blend": 0.5, "index_kind": "sign"
        })
        for wrong in ("lag", ":a=1", "x:a", "x@1:a=1"):
            with self.assertRaises(ValueError):
                configurations.all_configurations([512], [wrong])


def result(configuration="full", index=0, score=100.0, **more):
    family, _, budget = configuration.partition("@")
    return dict({
        "model": "m", "suite": "own", "task": "needle_single", "length": 4096,
        "index": index, "source": "v1 seed 1", "kv": {"name": configuration},
        "configuration": configuration, "family": family,
        "budget": int(budget or 0), "score": score, "seconds": 1.5,
        "prompt_tokens": 4000, "cached_tokens": 0, "generated_tokens": 64,
        "tokens_attended_per_step": 500.0, "time": "2026-01-02T03:04:05Z"
    }, **more)


class ResultsTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "new", "results.jsonl")

    def test_what_is_there_is_found_by_another_run(self):
        store = results.Results(self.path)
        self.assertIsNone(store.get(result()))
        store.add(result(score=50.0))
        again = results.Results(self.path)
        self.assertEqual(again.get(result())["score"], 50.0)

    def test_another_question_or_configuration_is_not_there(self):
        store = results.Results(self.path)
        store.add(result())
        for field, value in (("model", "n"), ("suite", "grid"), ("task", "t"),
                             ("length", 1), ("index", 1), ("source", "v2"),
                             ("kv", {"policy": "x"}), ("max_tokens", 9)):
            self.assertIsNone(store.get(result(**{field: value})), field)

    def test_a_later_line_replaces_an_earlier_one(self):
        store = results.Results(self.path)
        store.add(result(score=1.0))
        store.add(result(score=2.0))
        lines = results.read(self.path)
        self.assertEqual([line["score"] for line in lines], [2.0])

    def test_a_run_that_was_ended_anywhere_is_resumed(self):
        store = results.Results(self.path)
        store.add(result(index=0))
        store.add(result(index=1))
        with open(self.path, "rb") as file:
            whole = file.read()
        first_line = whole.index(b"\n") + 1
        ends = {
            place + step for place in (first_line, len(whole))
            for step in (-2, -1, 0, 1)
        } | set(range(0, len(whole), 29))
        for end in sorted(end for end in ends if end <= len(whole)):
            with open(self.path, "wb") as file:
                file.write(whole[:end])
            resumed = results.Results(self.path)
            # All of a line but its end is a whole line.
            self.assertEqual(resumed.get(result(index=0)) is not None,
                             end >= first_line - 1)
            resumed.add(result(index=2))
            known = {line["index"] for line in results.read(self.path)}
            self.assertIn(2, known)
            self.assertEqual(1 in known, end >= len(whole) - 1)


class FakeBar:

    def __init__(self):
        self.done = 0

    def update(self, count):
        self.done += count

    def set_description(self, text):
        pass

    def set_postfix_str(self, text):
        pass

    def write(self, text):
        pass


class FakeClient:
    """Answers rightly, except where `fails` raises; keeps what was asked."""

    def __init__(self, asked, fails):
        self.model = mock.Mock(server_version="0")
        self.model.name = "m"
        self._asked = asked
        self._fails = fails

    def check_fields(self, chosen):
        for configuration in chosen:
            if "unknown" in configuration.fields:
                raise evaluation.RefusedError("no field unknown")

    def answer(self, row, fields, max_tokens):
        what = (row["user"], fields["policy"])
        self._asked.append(what)
        self._fails(what)
        return {"prediction": " ".join(row["outputs"]), "seconds": 1.0,
                "prompt_tokens": 10, "generated_tokens": max_tokens}

    def loss(self, row, fields):
        return {"losses": [1.0] * 64 + [2.0] * 64, "seconds": 1.0,
                "prompt_tokens": 10, "generated_tokens": 1}

    def close(self):
        pass


class EvaluationTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "results.jsonl")
        self.asked = []
        self.connections = 0
        self.bar = FakeBar()
        self.chosen = [
            configurations.Configuration("full", 0, {"policy": "full"}),
            configurations.Configuration("recent", 512, {"policy": "r"})
        ]

    def run_once(self, fails=lambda what: None, names="ab"):
        def connect():
            self.connections += 1
            return FakeClient(self.asked, fails)

        def question(name):
            row = {"user": name, "outputs": ["1234567"]}
            return tasks.Question("own", "t", 100, ord(name), "s",
                                  lambda tokenizer: row)

        run = evaluation.Evaluation(connect, results.Results(self.path),
                                    self.bar, 64)
        run.run([question(name) for name in names], self.chosen)
        run.close()
        return run.failures

    def test_asks_all_configurations_of_a_question_in_a_row(self):
        self.assertEqual(self.run_once(), [])
        self.assertEqual(self.asked, [("a", "full"), ("a", "r"), ("b", "full"),
                                      ("b", "r")])
        self.assertEqual(self.bar.done, 4)
        lines = results.read(self.path)
        self.assertEqual([line["configuration"] for line in lines],
                         ["full", "recent@512"] * 2)
        self.assertEqual([line["score"] for line in lines], [100] * 4)
        self.assertEqual(lines[1]["budget"], 512)

    def test_does_not_ask_again_what_is_there(self):
        self.run_once(names="a")
        self.chosen.append(
            configurations.Configuration("recent", 256, {"policy": "q"}))
        self.run_once(names="ab")
        self.assertEqual(self.asked[2:], [("a", "q"), ("b", "full"),
                                          ("b", "r"), ("b", "q")])

    def test_an_interrupted_run_goes_on_where_it_ended(self):
        def interrupt(what):
            if what == ("b", "full"):
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.run_once(interrupt)
        self.asked.clear()
        self.run_once()
        self.assertEqual(self.asked, [("b", "full"), ("b", "r")])

    def test_a_refused_request_is_left_out_and_the_next_one_asked(self):
        def refuse(what):
            if what == ("a", "full"):
                raise evaluation.RefusedError("kv.x: must be y")

        self.assertEqual(self.run_once(refuse),
                         ["own/t #97 full: kv.x: must be y"])
        self.assertEqual(len(results.read(self.path)), 3)
        self.assertEqual(self.connections, 1)
        self.assertEqual(self.bar.done, 4)

    def test_a_lost_server_is_connected_again_and_asked_again(self):
        def lose_once(what):
            if what == ("a", "r") and self.asked.count(what) == 1:
                raise evaluation.LostError("gone")

        self.assertEqual(self.run_once(lose_once), [])
        self.assertEqual(self.connections, 2)
        self.assertEqual(self.asked.count(("a", "r")), 2)
        self.assertEqual(len(results.read(self.path)), 4)

    def test_a_question_that_ends_the_server_each_time_is_left_out(self):
        def lose(what):
            if what == ("a", "r"):
                raise evaluation.LostError("gone")

        self.assertEqual(len(self.run_once(lose)), 1)
        self.assertEqual(len(results.read(self.path)), 3)
        self.assertEqual(self.connections, 1 + evaluation.ATTEMPTS)

    def test_an_unknown_field_is_refused_before_anything_is_asked(self):
        self.chosen.append(
            configurations.Configuration("x", 1, {"unknown": 1}))
        with self.assertRaisesRegex(evaluation.RefusedError, "unknown"):
            self.run_once()
        self.assertEqual(self.asked, [])

    def test_losses_are_kept_as_means_of_stretches(self):
        run = evaluation.Evaluation(lambda: FakeClient([], None),
                                    results.Results(self.path), self.bar, 64)
        question = tasks.Question("perplexity", "p", 100, 0, "s",
                                  lambda tokenizer: {"forced": 128})
        run.run([question], self.chosen[:1])
        line, = results.read(self.path)
        self.assertEqual(line["losses"], [1.0, 2.0])
        self.assertEqual(line["score"], 1.5)


class ReportTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.page = os.path.join(self.folder, "quality.md")
        with open(self.page, "w", encoding="utf-8") as file:
            file.write("# Title\n\n" + "".join(
                f"About {suite}.\n\n<!-- report: {suite} -->\nold {suite}\n"
                f"<!-- end of report: {suite} -->\n\n"
                for suite in report.SECTIONS) + "The end.\n")

    def write(self, lines):
        path = os.path.join(self.folder, "results.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        arguments = ["report.py", "--results", path, "--docs", self.folder,
                     "--no_plots"]
        with mock.patch.object(sys, "argv", arguments), \
                mock.patch("builtins.print"):
            report.main()
        with open(self.page, encoding="utf-8") as file:
            return file.read()

    def test_replaces_what_has_results_and_keeps_all_else(self):
        page = self.write([result(index=i) for i in range(3)])
        self.assertTrue(page.startswith("# Title\n"))
        self.assertTrue(page.endswith("The end.\n"))
        self.assertNotIn("old own", page)
        self.assertIn("old ruler", page)
        self.assertIn("About own.", page)
        self.assertIn("| full | 100.0 |", page)
        # Once more gives the same.
        self.assertEqual(self.write([result(index=i) for i in range(3)]), page)

    def test_differences_are_paired_with_full(self):
        lines = [result(index=i, score=s) for i, s in enumerate((100, 0, 50))]
        lines += [
            result("recent@512", index=i, score=s)
            for i, s in enumerate((90, 0, 30))
        ]
        # Not answered by `full`: counts in the mean, not in the difference.
        lines.append(result("recent@512", index=9, score=80))
        groups = report.groups_of(lines)
        self.assertEqual(groups["full"].mean, 50)
        self.assertEqual(groups["recent@512"].mean, 50)
        self.assertEqual(groups["recent@512"].difference, -10)
        self.assertEqual(groups["recent@512"].compared, 3)
        low, high = groups["recent@512"].interval
        self.assertLessEqual(-20, low)
        self.assertLess(low, -10)
        self.assertLess(-10, high)
        self.assertLessEqual(high, 0)
        self.assertRegex(self.write(lines),
                         r"\| recent@512 \| 50\.0 \| -10\.0 \| [^|]* \| 0 of 1 "
                         r"\| 4 \| 500 \|")

    def test_kept_are_the_right_answers_that_full_has_too(self):
        lines = [result(index=i, score=s) for i, s in enumerate((100, 0, 100))]
        lines += [
            result("recent@512", index=i, score=s)
            for i, s in enumerate((100, 100, 75))
        ]
        group = report.groups_of(lines)["recent@512"]
        self.assertEqual((group.kept, group.right), (1, 2))

    def test_configurations_are_ordered_by_budget_and_family(self):
        lines = [
            result(name) for name in ("sentence-mean@1024", "recent@1024",
                                      "full", "sentence-mean@256")
        ]
        self.assertEqual(list(report.groups_of(lines)), [
            "full", "sentence-mean@256", "recent@1024", "sentence-mean@1024"
        ])

    def test_summary_has_a_column_for_each_suite_with_results(self):
        page = self.write([
            result(),
            result("recent@512", score=70),
            result(suite="turns", score=40),
            result("recent@512", suite="perplexity", losses=[1.5], score=1.5),
            result(suite="perplexity", losses=[1.0], score=1.0)
        ])
        self.assertIn(
            "| configuration | own | turns | perplexity (loss) |\n"
            "|---|---|---|---|\n"
            "| full | 100.0 (1) | 40.0 (1) | 1.000 (1) |\n"
            "| recent@512 | -30.0 (1) | - | +0.500 (1) |\n", page)

    def test_losses_are_compared_stretch_by_stretch(self):
        lines = [
            result(suite="perplexity", score=2.0, losses=[1.0, 3.0]),
            result("recent@512", suite="perplexity", score=2.5,
                   losses=[1.25, 3.75])
        ]
        group = report.groups_of(lines)["recent@512"]
        self.assertEqual(group.difference, 0.5)
        self.assertEqual(group.interval, (0.25, 0.75))
        self.assertIn("| recent@512 | 2.500 | +0.500 | +0.250 to +0.750 |",
                      self.write(lines))

    def test_tokens_read_by_full_are_all_there_are(self):
        self.assertEqual(report.attended_tokens(result()), 4032)
        self.assertEqual(report.attended_tokens(result("recent@512")), 500)

    def test_csv_has_suites_and_their_tasks(self):
        self.write([
            result(),
            result("recent@512", score=50),
            result(task="variables", score=0)
        ])
        with open(os.path.join(self.folder, "quality", "scores.csv"),
                  encoding="utf-8") as file:
            rows = [line.split(",") for line in file.read().splitlines()]
        self.assertEqual(rows[0], list(report.COLUMNS))
        self.assertEqual([(r[2], r[4], r[7], float(r[10])) for r in rows[1:]], [
            ("", "full", "2", 50.0),
            ("", "recent@512", "1", 50.0),
            ("needle_single", "full", "1", 100.0),
            ("needle_single", "recent@512", "1", 50.0),
            ("variables", "full", "1", 0.0),
        ])

    def test_a_document_without_the_markers_is_refused(self):
        with self.assertRaisesRegex(ValueError, "0 places are marked"):
            report.replace_section("text", "own", "new\n")

    def test_the_document_of_this_tree_has_all_markers(self):
        path = os.path.join(report.ROOT, "docs", "quality.md")
        with open(path, encoding="utf-8") as file:
            document = file.read()
        for suite in report.SECTIONS:
            document = report.replace_section(document, suite, "x\n")


if __name__ == "__main__":
    unittest.main()
