"""Text without end, written by a small grammar of our own: Prose, which reads
like an essay, and Log, in which nothing ends with a full stop.

    sentences = Prose("some seed").sentences(100)

A sentence comes from a pattern (an opener, a clause, an ending: PATTERNS has
all several hundred combinations) whose slots are filled from the words of one
of the THEMES; a paragraph stays with its theme. The same seed gives the same
text, and the first n sentences do not depend on how many are taken.

The texts hold no number of more than four digits, so that a needle of seven
digits cannot be confused with it.
"""
import itertools
import random

# Words of a theme: who acts, on what, where, doing what, with what quality.
THEMES = [
    {
        "name": "gardening",
        "who": ["the gardener", "an old neighbour", "the apprentice",
                "a visiting botanist", "the keeper of the orchard"],
        "thing": ["the pear trees", "a row of beans", "the compost heap",
                  "a tray of seedlings", "the climbing roses", "the soil"],
        "place": ["behind the greenhouse", "along the southern wall",
                  "in the walled garden", "beside the rain barrel"],
        "act": ["pruned", "watered", "covered with straw", "transplanted",
                "weeded around"],
        "quality": ["patient", "thirsty", "hardy", "fragrant", "stubborn"],
    },
    {
        "name": "navigation",
        "who": ["the pilot", "a young sailor", "the captain",
                "the harbour master", "a retired mapmaker"],
        "thing": ["the brass compass", "the tide tables", "a torn chart",
                  "the evening watch", "the anchor chain", "the log book"],
        "place": ["at the mouth of the river", "beyond the breakwater",
                  "below deck", "near the northern cape"],
        "act": ["checked", "corrected", "trusted", "argued about",
                "wrote notes on"],
        "quality": ["reliable", "salty", "restless", "precise", "weathered"],
    },
    {
        "name": "baking",
        "who": ["the baker", "her eldest son", "the miller",
                "a customer from the hills", "the night shift"],
        "thing": ["the rye dough", "a stone oven", "the sourdough",
                  "a basket of rolls", "the flour", "the first loaf"],
        "place": ["in the back of the shop", "near the mill stream",
                  "on the long wooden table", "by the open oven door"],
        "act": ["kneaded", "weighed", "tasted", "set aside", "praised"],
        "quality": ["warm", "sour", "crisp", "generous", "uneven"],
    },
    {
        "name": "libraries",
        "who": ["the librarian", "a student of law", "the bookbinder",
                "an absent-minded scholar", "the caretaker"],
        "thing": ["the card catalogue", "a leather volume", "the top shelf",
                  "a box of letters", "the reading lamp", "the old index"],
        "place": ["in the reading room", "under the spiral staircase",
                  "between two tall shelves", "in the basement archive"],
        "act": ["catalogued", "dusted", "borrowed", "searched through",
                "copied parts of"],
        "quality": ["quiet", "dusty", "learned", "orderly", "forgotten"],
    },
    {
        "name": "bridges",
        "who": ["the engineer", "a team of masons", "the inspector",
                "the toll collector", "her assistant"],
        "thing": ["the stone arch", "a cracked beam", "the drawings",
                  "the eastern pier", "a bundle of cables", "the footpath"],
        "place": ["above the gorge", "halfway across", "on the far bank",
                  "close to the old ford"],
        "act": ["measured", "reinforced", "sketched", "tested", "repainted"],
        "quality": ["slender", "solid", "elegant", "expensive", "graceful"],
    },
    {
        "name": "clockmaking",
        "who": ["the clockmaker", "a curious child", "the town council",
                "the bell ringer", "an instrument dealer"],
        "thing": ["the pendulum", "a tiny gear", "the tower clock",
                  "the main spring", "a silver watch", "the escapement"],
        "place": ["in the workshop window", "at the top of the tower",
                  "on a velvet cloth", "across the market square"],
        "act": ["wound", "repaired", "oiled", "took apart", "listened to"],
        "quality": ["steady", "delicate", "punctual", "intricate", "tired"],
    },
    {
        "name": "weather",
        "who": ["the observer", "a farmer's daughter", "the ferryman",
                "the night watchman", "a group of hikers"],
        "thing": ["the barometer", "a bank of clouds", "the morning fog",
                  "the rain gauge", "the first snow", "the west wind"],
        "place": ["on the ridge", "over the lowlands", "near the station",
                  "along the coast road"],
        "act": ["watched", "recorded", "predicted", "described", "feared"],
        "quality": ["mild", "sudden", "grey", "dependable", "bitter"],
    },
    {
        "name": "music",
        "who": ["the organist", "a violin teacher", "the choir",
                "an impatient conductor", "the piano tuner"],
        "thing": ["the slow movement", "a broken string", "the score",
                  "the second theme", "an old melody", "the rehearsal"],
        "place": ["in the empty hall", "behind the curtain",
                  "at the summer festival", "in the practice room"],
        "act": ["rehearsed", "transposed", "hummed", "rewrote", "applauded"],
        "quality": ["solemn", "lively", "out of tune", "tender", "bold"],
    },
    {
        "name": "pottery",
        "who": ["the potter", "a pupil from the city", "the glaze master",
                "her business partner", "the kiln builder"],
        "thing": ["a tall vase", "the wet clay", "the second kiln",
                  "a set of bowls", "the blue glaze", "a chipped jug"],
        "place": ["on the drying rack", "in the shed by the kiln",
                  "at the weekly market", "next to the wheel"],
        "act": ["shaped", "fired", "polished", "broke", "priced"],
        "quality": ["fragile", "glossy", "plain", "heavy", "symmetrical"],
    },
    {
        "name": "railways",
        "who": ["the signalman", "a travelling salesman", "the conductor",
                "the station cat's owner", "a track worker"],
        "thing": ["the last train", "the timetable", "a wooden sleeper",
                  "the branch line", "the signal box", "a stack of parcels"],
        "place": ["on platform two", "past the tunnel", "in the waiting room",
                  "at the junction"],
        "act": ["delayed", "inspected", "announced", "waited for", "missed"],
        "quality": ["punctual", "crowded", "rusty", "narrow", "familiar"],
    },
    {
        "name": "beekeeping",
        "who": ["the beekeeper", "a nervous guest", "the village doctor",
                "her grandfather", "the honey merchant"],
        "thing": ["the third hive", "a swarm", "the smoker",
                  "a frame of honey", "the queen", "the clover field"],
        "place": ["under the lime trees", "at the edge of the meadow",
                  "in the cool cellar", "near the orchard gate"],
        "act": ["moved", "fed", "examined", "sold", "sheltered"],
        "quality": ["busy", "calm", "golden", "fierce", "sweet"],
    },
    {
        "name": "astronomy",
        "who": ["the astronomer", "an amateur observer", "the lens grinder",
                "a schoolteacher", "the night assistant"],
        "thing": ["the small telescope", "a faint comet", "the star atlas",
                  "a photographic plate", "the dome", "the outer planets"],
        "place": ["on the observatory roof", "far from the city lights",
                  "in the control room", "above the eastern horizon"],
        "act": ["observed", "calibrated", "drew", "lost sight of",
                "calculated the path of"],
        "quality": ["distant", "brilliant", "patient", "faint", "regular"],
    },
    {
        "name": "weaving",
        "who": ["the weaver", "a cloth merchant", "the dyer",
                "the youngest sister", "an inspector of the guild"],
        "thing": ["the loom", "a bolt of linen", "the red thread",
                  "an unfinished carpet", "the pattern book", "the wool"],
        "place": ["in the upper room", "along the canal",
                  "at the autumn fair", "by the tall windows"],
        "act": ["unpicked", "finished", "dyed", "folded", "admired"],
        "quality": ["coarse", "fine", "colourful", "durable", "tangled"],
    },
    {
        "name": "teaching",
        "who": ["the teacher", "a new pupil", "the headmistress",
                "the examiner", "an honest parent"],
        "thing": ["the blackboard", "a difficult proof", "the homework",
                  "the reading list", "an early lesson", "the question"],
        "place": ["in the corner classroom", "during the long break",
                  "at the end of the corridor", "in the school yard"],
        "act": ["explained", "simplified", "forgot", "repeated", "graded"],
        "quality": ["clear", "demanding", "curious", "fair", "puzzling"],
    },
]

# What a sentence begins with. The clause follows with a small letter.
OPENERS = [
    "", "", "", "In the early years, ", "As far as anyone remembers, ",
    "On most mornings ", "Before the winter, ", "Strangely enough, ",
    "To be honest, ", "After some hesitation, ", "Once in a while ",
    "In hindsight, ", "When nobody was looking, ", "For example, ",
    "As a rule, ", "Towards evening ",
]
# The middle of a sentence: {who}, {thing}, {place}, {act}, {quality}, {theme},
# {number}; {who2} and {thing2} are others of the same theme.
CLAUSES = [
    "{who} {act} {thing} {place}",
    "{who} and {who2} {act} {thing}",
    "{thing} stayed {place}, where {who} could see it",
    "{who} said that {thing} had always been {quality}",
    "nobody {place} {act} {thing} as carefully as {who}",
    "{who} thought of {theme} as something {quality}",
    "{thing} mattered more than {thing2}",
    "{who} kept {thing} {place} for {number} days",
    "there were {number} reasons to leave {thing} alone",
    "{who} asked {who2} about {thing}",
    "the best part of {theme} is what happens {place}",
    "{who} {act} {thing} and then {act2} {thing2}",
    "{thing} looked {quality} {place}",
    "it took {who} about {number} weeks to understand {thing}",
    "what {who} loved about {theme} was {thing}",
    "{who2} found {thing} less {quality} than {who} had promised",
    "people who know {theme} well rarely talk about {thing}",
    "a {quality} answer is not always a useful one {place}",
    "{who} wrote a short letter about {thing} and left it {place}",
    "{thing} and {thing2} belong together, as {who} used to say",
    "{who} learned {theme} from {who2}, {place}",
    "the price of {thing} rose by {decimal} percent in that year",
]
# What a sentence ends with.
ENDINGS = [
    ".", ".", ".", ".", ", and that was enough.",
    ", although it rained.", ", which surprised {who2}.",
    "; it seemed {quality2} at the time.", " without saying a word.",
    ", or so the story goes.", "!", " (a habit of {theme}).",
    ", because {thing2} could wait.", " more than {number2} times.",
]
PATTERNS = sorted({
    opener + clause + ending for opener, clause, ending in itertools.product(
        OPENERS, CLAUSES, ENDINGS)
})

# Sentences of a paragraph.
SHORTEST_PARAGRAPH = 4
LONGEST_PARAGRAPH = 9


class Prose:
    """Sentences in an order that the seed decides."""

    def __init__(self, seed):
        self._random = random.Random(f"prose {seed}")
        self._sentences = []

    def sentences(self, count):
        """The first `count` sentences, each with the white space behind it:
        a blank, or an empty line where a paragraph ends."""
        while len(self._sentences) < count:
            self._sentences += self._paragraph()
        return self._sentences[:count]

    @staticmethod
    def enclose(fact):
        """A sentence that states the fact."""
        return fact + " "

    def _paragraph(self):
        theme = self._random.choice(THEMES)
        length = self._random.randint(SHORTEST_PARAGRAPH, LONGEST_PARAGRAPH)
        sentences = [self._sentence(theme) + " " for _ in range(length)]
        sentences[-1] = sentences[-1].rstrip() + "\n\n"
        return sentences

    def _sentence(self, theme):
        choose = self._random
        who, who2 = choose.sample(theme["who"], 2)
        thing, thing2 = choose.sample(theme["thing"], 2)
        act, act2 = choose.sample(theme["act"], 2)
        quality, quality2 = choose.sample(theme["quality"], 2)
        text = choose.choice(PATTERNS).format(
            theme=theme["name"], who=who, who2=who2, thing=thing,
            thing2=thing2, act=act, act2=act2, quality=quality,
            quality2=quality2, place=choose.choice(theme["place"]),
            number=choose.randint(2, 90), number2=choose.randint(3, 40),
            decimal=f"{choose.randint(0, 9)}.{choose.randint(1, 9)}")
        return text[0].upper() + text[1:]


SERVICES = ("billing", "scheduler", "mailer", "search", "storage", "gateway",
            "reports", "auth")
LEVELS = ("DEBUG", "INFO", "INFO", "INFO", "WARN")
EVENTS = (
    "job {number} finished in {decimal} s",
    "job {number} waits for a lock held by {service}",
    "connection {number} from {service} closed, {number2} bytes sent",
    "retry {number2} of request {number} to {service}",
    "cache of {service} has {number} entries, {decimal} percent used",
    "configuration of {service} read, {number2} keys",
    "queue length {number2}, oldest entry {decimal} s",
    "user {number} signed in through {service}",
    "disk {number2} is {decimal} percent full",
    "{service} answered {number} with status {number2}",
)


class Log:
    """Lines of a log, in an order that the seed decides."""

    def __init__(self, seed):
        self._random = random.Random(f"log {seed}")
        self._lines = []

    def sentences(self, count):
        """The first `count` lines, each with its end."""
        while len(self._lines) < count:
            choose = self._random
            event = choose.choice(EVENTS).format(
                service=choose.choice(SERVICES),
                number=choose.randint(100, 9999),
                number2=choose.randint(2, 99),
                decimal=f"{choose.randint(0, 99)}.{choose.randint(0, 9)}")
            minutes, seconds = divmod(7 * len(self._lines), 60)
            self._lines.append(
                f"{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02} "
                f"{choose.choice(LEVELS)} {choose.choice(SERVICES)}: {event}\n")
        return self._lines[:count]

    @staticmethod
    def enclose(fact):
        """A line that states the fact."""
        return f"00:00:00 INFO notes: {fact.removesuffix('.')}\n"
