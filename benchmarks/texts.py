"""Made-up conversations with the statistics of real ones: word frequencies by Zipf's law, punctuation, questions.

The same seed gives the same messages on every machine.
"""

import datetime
import itertools
import random
from typing import Any

WORDS = 30_000
"""Size of the vocabulary."""
LENGTH = 20
"""Words of a message on average."""

_FUNCTION = (
    "the i to and a you it of that in is my for was have on but so with me this at just be are not like we do what "
    "your they had if about from there he she or as an all get when up out can would know time really been don't it's "
    "i'm that's think how one going some because also then now more her them good will has really want maybe people "
    "see their very much new who make where our last over back first even after could other only too did"
).split()
_ONSETS = "b c d f g h j k l m n p r s t v w br ch cl cr dr fl gr pl pr sh sk sl sp st str th tr".split()
_NUCLEI = "a e i o u ai ea ee ie oa ou".split()
_CODAS = ["", "", "", "n", "r", "t", "l", "s", "m", "nd", "ng", "rt", "st", "ck"]
_ENDINGS = ["", "", "", "s", "ed", "ing", "ly", "er", "tion", "ness", "able"]


def vocabulary(rng: random.Random) -> list[str]:
    """``WORDS`` words, the commonest first."""
    made = dict.fromkeys(_FUNCTION)
    while len(made) < WORDS:
        syllables = rng.choices((1, 2, 3), (3, 5, 2))[0]
        stem = "".join(rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(syllables))
        made[stem + rng.choice(_ENDINGS)] = None
    return list(made)


class Writer:
    """Writes messages and questions, the same ones for the same seed."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._words = vocabulary(random.Random(1))
        self._weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))
        self._moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)

    def words(self, count: int) -> list[str]:
        """So many words by their frequency."""
        return self._rng.choices(self._words, cum_weights=self._weights, k=count)

    def text(self) -> str:
        """A message of one to several sentences."""
        rng = self._rng
        left = max(3, min(200, round(rng.lognormvariate(2.85, 0.55))))
        sentences = []
        while left > 0:
            size = min(left, rng.randint(4, 14))
            left -= size
            words = self.words(size)
            words[0] = words[0].capitalize()
            if rng.random() < 0.25:
                words[rng.randrange(size)] = str(rng.randint(1, 2030))
            if size > 6 and rng.random() < 0.5:
                words[size // 2] += ","
            sentences.append(" ".join(words) + rng.choices((".", "?", "!", "..."), (8, 2, 1, 0.5))[0])
        return " ".join(sentences)

    def question(self) -> str:
        """A question of five to nine words, of which some are rare."""
        words = self.words(self._rng.randint(4, 7))
        return f"What {' '.join(words)}?".replace("  ", " ")

    def messages(self, user: str, count: int) -> list[dict[str, Any]]:
        """So many messages of a conversation between the user and an assistant, as the API takes them."""
        out = []
        for place in range(count):
            self._moment += datetime.timedelta(seconds=self._rng.randint(5, 90))
            mine = place % 2 == 0
            out.append(
                {
                    "role": "user" if mine else "assistant",
                    "sender_id": user if mine else "assistant",
                    "content": self.text(),
                    "created_at": self._moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                }
            )
        return out
