"""The text that the tokenizer and the small base models grow up on: simple English, made by a seeded grammar.

Everything is generated on demand from the word lists below; nothing is read from outside and nothing is random noise.
Chats carry answers of mixed quality on purpose (as real text does), so that a base model knows a task without
being reliable at it, and supervised or reinforcement training has something left to improve.
"""

from collections.abc import Callable, Iterator
from random import Random

from ftsim.compute.models.wordlist import COMMON_WORDS

Message = dict[str, str]
Chat = list[Message]


def _split(text: str) -> list[str]:
    return text.split()


NAMES = _split("Ada Ben Cleo Dan Eva Finn Gus Hana Ida Jon Kim Lena Milo Nora Omar Pia Quinn Rosa Sam Tess")
ANIMALS = _split("cat dog fox owl hen goat horse mouse duck bear frog sheep crow seal bee")
COLOURS = _split("red blue green yellow black white brown grey pink gold")
THINGS = _split("box key lamp book cup map bag bell kite drum rope coin chair clock ladder brush")
PLACES = _split("garden kitchen market station library harbour school forest bridge tower workshop field")
FOODS = _split("bread soup rice apples cheese plums honey eggs beans cake")
SIZES = _split("small big old new long short heavy light")
MOODS = _split("happy tired calm proud curious hungry quiet busy")
WEATHER = _split("sunny rainy windy cloudy cold warm foggy dry")
DAYS = _split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
JOBS = _split("baker teacher sailor farmer doctor painter driver gardener")
VERBS = _split("found lost carried painted opened cleaned hid moved")
OPPOSITES = {
    "big": "small", "hot": "cold", "old": "new", "long": "short", "up": "down", "day": "night", "open": "closed",
    "fast": "slow", "light": "dark", "full": "empty", "early": "late", "left": "right", "soft": "hard", "wet": "dry",
}  # fmt: skip
NUMBER_WORDS = _split("zero one two three four five six seven eight nine ten")
FOREIGN = (
    "Grüße aus Köln: das Boot fährt früh.",
    "Où est la clé ? Elle est à côté du café.",
    "El niño compró piñas y plátanos.",
    "Мама купила хлеб и молоко.",
    "猫は庭にいます。",
    "今天天气很好。",
    "Temperature: 21 °C, price: 3 €, done ✓",
)
GREETINGS = ("Hello", "Hi", "Good morning", "Good evening")


def _sentence(r: Random) -> str:
    name, other = r.sample(NAMES, 2)
    thing, place, animal = r.choice(THINGS), r.choice(PLACES), r.choice(ANIMALS)
    colour, size, food = r.choice(COLOURS), r.choice(SIZES), r.choice(FOODS)
    return r.choice(
        (
            f"{name} {r.choice(VERBS)} the {colour} {thing} in the {place}.",
            f"The {size} {animal} sleeps near the {place}.",
            f"{name} gave {other} a {colour} {thing}.",
            f"On {r.choice(DAYS)} it was {r.choice(WEATHER)}, so {name} went to the {place}.",
            f"There is a {size} {thing} on the table in the {place}.",
            f"{name} likes {food}, but {other} likes {r.choice(FOODS)}.",
            f"The {r.choice(JOBS)} was {r.choice(MOODS)} because the {thing} was {colour}.",
            f"Every {r.choice(DAYS)} {name} and {other} walk from the {place} to the {r.choice(PLACES)}.",
            f"If it is {r.choice(WEATHER)}, the {animal} will stay in the {place}.",
            f'{name} asked, "Where is my {thing}?" and {other} said, "It is in the {place}."',
        )
    )


def _story(r: Random) -> str:
    """A paragraph in which a thing keeps its owner, colour and place."""
    name, other = r.sample(NAMES, 2)
    thing, colour, place = r.choice(THINGS), r.choice(COLOURS), r.choice(PLACES)
    middle = " ".join(_sentence(r) for _ in range(r.randint(0, 2)))
    return (
        f"{name} had a {colour} {thing}. One {r.choice(WEATHER)} day {name} left the {thing} in the {place}. {middle}"
        f"{' ' if middle else ''}{other} saw the {colour} {thing} in the {place} and brought it back to {name}. "
        f"{name} was {r.choice(MOODS)} again."
    )


def _list(r: Random) -> str:
    items = r.sample(r.choice((ANIMALS, THINGS, FOODS, COLOURS)), r.randint(3, 5))
    if r.random() < 0.5:
        return "\n".join(["Shopping list:" if items[0] in FOODS else "List:", *(f"- {item}" for item in items)])
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))


def _counting(r: Random) -> str:
    start, length = r.randint(0, 40), r.randint(4, 9)
    return r.choice(
        (
            " ".join(str(start + i) for i in range(length)),
            "Count: " + ", ".join(NUMBER_WORDS[r.randint(0, 4) :]) + ".",
            "The days are " + ", ".join(DAYS) + ".",
        )
    )


def _sums(r: Random) -> str:
    return "\n".join("{} = {}".format(*arithmetic(r)) for _ in range(r.randint(1, 5)))


def _record(r: Random) -> str:
    name, colour, count = r.choice(NAMES), r.choice(COLOURS), r.randint(1, 9)
    thing = r.choice(THINGS)
    return r.choice(
        (
            f'{{"name": "{name}", "item": "{thing}", "colour": "{colour}", "count": {count}}}',
            f"def count_{thing}(items):\n    return len([item for item in items if item == '{colour}'])\n",
            f"| name | item | count |\n| --- | --- | --- |\n| {name} | {thing} | {count} |",
            f"# {thing.title()}\n\nThe {thing} of {name} is **{colour}**.",
        )
    )


_TEXTS: tuple[tuple[float, Callable[[Random], str]], ...] = (
    (4, lambda r: " ".join(_sentence(r) for _ in range(r.randint(1, 4)))),
    (4, _story),
    (1, _list),
    (1, _counting),
    (2, _sums),
    (1, _record),
    (0.3, lambda r: r.choice(FOREIGN)),
)


def texts(seed: int, count: int) -> Iterator[str]:
    """`count` plain documents; the same seed gives the same documents."""
    random = Random(f"text-{seed}")
    makers = [maker for _, maker in _TEXTS]
    weights = [weight for weight, _ in _TEXTS]
    for _ in range(count):
        yield random.choices(makers, weights)[0](random)


def arithmetic(r: Random, top: int = 9) -> tuple[str, str]:
    """A sum of two digits up to `top` and its value, e.g. `("3 + 4", "7")`."""
    left, right = r.randint(0, top), r.randint(0, top)
    if r.random() < 0.3 and left >= right:
        return f"{left} - {right}", str(left - right)
    return f"{left} + {right}", str(left + right)


def words(r: Random, count: int) -> list[str]:
    """`count` different simple words."""
    return r.sample(ANIMALS + COLOURS + THINGS + FOODS, count)


def _copy_turn(r: Random) -> tuple[str, str]:
    chosen = words(r, r.randint(1, 4))
    spread = r.random()
    if spread < 0.45:
        answer = chosen
    elif spread < 0.7:
        answer = r.sample(chosen, len(chosen))
    else:
        answer = [*chosen[: r.randint(0, len(chosen) - 1)], *words(r, r.randint(1, 2))]
    return r.choice(("Copy: ", "Repeat: ", "Say again: ")) + " ".join(chosen), " ".join(answer)


def _sum_turn(r: Random) -> tuple[str, str]:
    question, value = arithmetic(r)
    answer = value if r.random() < 0.6 else str(max(0, int(value) + r.choice((-2, -1, 1, 2))))
    return r.choice((f"{question} = ?", f"What is {question}?", f"Compute {question}.")), answer


def _opposite_turn(r: Random) -> tuple[str, str]:
    word, other = r.choice(list(OPPOSITES.items()))
    if r.random() < 0.5:
        word, other = other, word
    return f"What is the opposite of {word}?", r.choice((f"{other}", f"The opposite of {word} is {other}."))


def _fact_turn(r: Random) -> tuple[str, str]:
    name, thing, colour, place = r.choice(NAMES), r.choice(THINGS), r.choice(COLOURS), r.choice(PLACES)
    return r.choice(
        (
            (f"{name} has a {colour} {thing}. What colour is the {thing}?", f"The {thing} is {colour}."),
            (f"{name} is in the {place}. Where is {name}?", f"{name} is in the {place}."),
            (f"The {thing} of {name} is {colour}. Who has a {thing}?", f"{name} has a {colour} {thing}."),
        )
    )


def _talk_turn(r: Random) -> tuple[str, str]:
    name, place = r.choice(NAMES), r.choice(PLACES)
    return r.choice(
        (
            (f"{r.choice(GREETINGS)}!", f"{r.choice(GREETINGS)}! How can I help?"),
            (f"My name is {name}.", f"Nice to meet you, {name}."),
            (f"Tell me about the {place}.", _sentence(r)),
            ("Tell me something.", _sentence(r)),
            (f"Name {(n := r.randint(2, 4))} animals.", ", ".join(r.sample(ANIMALS, n)) + "."),
            ("Name a colour.", r.choice(COLOURS)),
            ("Thank you.", "You are welcome."),
            (
                f"Is the {r.choice(THINGS)} {r.choice(COLOURS)}?",
                r.choice(("Yes, it is.", "No, it is not.", "I do not know.")),
            ),
        )
    )


def _search_chat(r: Random) -> Chat:
    """Looking something up over two turns: ask about one thing, read the reply, answer."""
    keys = r.sample(THINGS, r.randint(2, 3))
    colours = dict(zip(keys, r.sample(COLOURS, len(keys)), strict=True))
    target = r.choice(keys)
    asked = target if r.random() < 0.5 else r.choice(keys)
    guess = colours[asked] if r.random() < 0.7 else r.choice(COLOURS)
    return [
        {"role": "user", "content": f"Find the colour of the {target}. Things: {', '.join(keys)}."},
        {"role": "assistant", "content": f"look: {asked}"},
        {"role": "user", "content": f"The {asked} is {colours[asked]}."},
        {"role": "assistant", "content": f"answer: {guess}"},
    ]


_TURNS: tuple[tuple[float, Callable[[Random], tuple[str, str]]], ...] = (
    (4, _copy_turn),
    (3, _sum_turn),
    (1, _opposite_turn),
    (3, _fact_turn),
    (2, _talk_turn),
)
SYSTEM_PROMPTS = ("You are a helpful assistant.", "Answer briefly.", "You are a friendly helper.")


def chats(seed: int, count: int) -> Iterator[Chat]:
    """`count` conversations of one to three exchanges, some with a system message."""
    random = Random(f"chat-{seed}")
    makers = [maker for _, maker in _TURNS]
    weights = [weight for weight, _ in _TURNS]
    for _ in range(count):
        chat: Chat = []
        if random.random() < 0.25:
            chat.append({"role": "system", "content": random.choice(SYSTEM_PROMPTS)})
        if random.random() < 0.12:
            yield chat + _search_chat(random)
            continue
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            question, answer = random.choices(makers, weights)[0](random)
            chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield chat


def vocabulary(seed: int, count: int) -> Iterator[str]:
    """`count` lines of common words in random order, half of them capitalised: food for the tokenizer only."""
    random = Random(f"vocabulary-{seed}")
    for number in range(count):
        line = random.choices(COMMON_WORDS, k=20)
        yield " ".join(word.title() for word in line) if number % 2 else " ".join(line)
