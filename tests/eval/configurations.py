"""The ways to read the KV cache that are compared.

A configuration is named FAMILY@BUDGET (`full` has no budget) and is a set of
fields of the request's KvParams. `recent` is what a window of recent tokens
makes of the same budget: the policy `sentence` with no budget to speak of for
chosen sentences and all of it added to the recent tokens.
"""
import dataclasses
import fnmatch

BUDGETS = (256, 512, 1024, 2048)
INDEX_KINDS = ("mean", "minmax", "sign")
SEMANTIC_FACTORS = (2, 3)
# What the policy `sentence` reads besides its budget (docs/sentences.md).
RECENT_TOKENS = 64


@dataclasses.dataclass(frozen=True)
class Configuration:
    family: str
    budget: int  # 0: reads everything
    fields: dict  # of KvParams

    @property
    def name(self):
        return f"{self.family}@{self.budget}" if self.budget else self.family


def all_configurations(budgets=BUDGETS, added=()):
    """`full` first: what it computes of a prompt serves all that follow.

    `added`: texts NAME:FIELD=VALUE,... for families of one's own; each is
    the policy `sentence` with these fields, at every budget."""
    found = [Configuration("full", 0, {"policy": "full"})]
    for budget in budgets:
        found += _sentence(budget)
        found += _paper(budget)
        found.append(_recent(budget))
        found += [_added(text, budget) for text in added]
    return found


def select(configurations, patterns):
    """Those whose name or family one of the patterns matches, in order."""
    chosen = [
        c for c in configurations if any(
            fnmatch.fnmatchcase(name, pattern)
            for pattern in patterns
            for name in (c.name, c.family))
    ]
    for pattern in patterns:
        if not any(
                fnmatch.fnmatchcase(name, pattern)
                for c in configurations
                for name in (c.name, c.family)):
            raise ValueError(f"no configuration is called {pattern}")
    return chosen


def _sentence_fields(budget):
    # Budgets are to be tested, so no context counts as short.
    return {"policy": "sentence", "token_budget": budget, "dense_tokens": 0}


# What a family's name adds to the index kind, and the fields that it means.
_AIDS = {
    "": {"prior": False},
    "-prior": {"prior": True, "head_budgets": False},
    "-heads": {"prior": True, "head_budgets": True},
}


def _sentence(budget):
    for kind in INDEX_KINDS:
        for name, aids in _AIDS.items():
            fields = _sentence_fields(budget)
            fields.update(index_kind=kind, **aids)
            yield Configuration(f"sentence-{kind}{name}", budget, fields)


def _paper(budget):
    for factor in SEMANTIC_FACTORS:
        yield Configuration(f"paper-r{factor}", budget, {
            "policy": "sentence-paper",
            "token_budget": budget,
            "semantic_factor": float(factor)
        })


def _recent(budget):
    fields = _sentence_fields(1)
    fields.update(recent_tokens=RECENT_TOKENS + budget, index_kind="mean",
                  prior=False)
    return Configuration("recent", budget, fields)


def _added(text, budget):
    family, separator, assignments = text.partition(":")
    if not separator or not family or "@" in family:
        raise ValueError(f"not of the form NAME:FIELD=VALUE,...: {text}")
    fields = _sentence_fields(budget)
    for assignment in filter(None, assignments.split(",")):
        field, separator, value = assignment.partition("=")
        if not separator:
            raise ValueError(f"no value for {field} in {text}")
        fields[field] = _value(value)
    return Configuration(family, budget, fields)


def _value(text):
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text
